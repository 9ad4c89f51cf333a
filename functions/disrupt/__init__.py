"""The disrupt function."""
