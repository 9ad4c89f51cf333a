"""The drain function."""
