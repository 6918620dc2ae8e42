"""Annotated documents for a sentence encoder: their entities' vectors, and what these know without fine-tuning."""
