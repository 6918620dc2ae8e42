"""Answers to questions as spans of a given context, as a task of fine-tuning (SQuAD 1.1, MRQA)."""
