"""Shards: records, how they are stored, and their order in a run."""
