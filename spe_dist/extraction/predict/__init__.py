"""A trained extractor in use: its folder, prediction, and output for people and programs."""
