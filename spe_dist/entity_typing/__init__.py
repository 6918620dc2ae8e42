"""Types of a given entity of a sentence, several at a time, as a task of fine-tuning (FIGER, UFET)."""
