"""Encoders of sentences, spans and span pairs, and their heads."""
