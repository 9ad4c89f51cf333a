"""The interrupt function."""
