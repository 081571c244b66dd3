"""Data sets of plugin models."""
