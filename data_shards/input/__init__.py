"""Input files of any format: what they hold, and how to read them."""
