"""Runs inside the measured process, beside every tracked version of MLX."""
