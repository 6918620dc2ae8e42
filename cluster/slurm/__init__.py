"""Runs under Slurm: the batch script, and what it needs."""
