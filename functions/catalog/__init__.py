"""The catalog function."""
