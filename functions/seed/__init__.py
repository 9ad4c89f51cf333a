"""The seed function."""
