"""The extractor as a network: labels, spans, pairs, classifiers, and sentences as tensors."""
