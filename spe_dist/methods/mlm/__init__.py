"""Masked language modelling, of pieces (BERT) or of spans with their boundaries (SpanBERT): `method.py`."""
