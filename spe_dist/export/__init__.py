"""A trained run as a folder that `transformers` and `SpanPairModel` load."""
