"""Readings of annotated data that need no model: statistics and warnings."""
