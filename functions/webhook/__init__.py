"""The webhook function."""
