"""Environments without a package index: a folder of wheels, and the packages of the Python that is here."""
