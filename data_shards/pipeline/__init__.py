"""Datasets made from text, or from other datasets."""
