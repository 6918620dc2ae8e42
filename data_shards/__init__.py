"""Text → tar shards → records in order. Knows nothing of models or training."""
