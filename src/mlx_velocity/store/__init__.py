"""An index of what is stored, so that each file is read once."""
