"""Text: sentences, words, and the pieces of words."""
