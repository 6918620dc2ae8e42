"""Tokenizers: their files, and vocabularies."""
