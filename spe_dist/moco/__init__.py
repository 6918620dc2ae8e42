"""Momentum contrast: the key encoder, the queue of keys, and gathering them in order."""
