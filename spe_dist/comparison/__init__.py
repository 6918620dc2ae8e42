"""Pre-trainings compared: the same fine-tunings from each, and one table of their scores."""
