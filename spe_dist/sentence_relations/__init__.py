"""Relations between two given entities of a sentence, as a task of fine-tuning (SemEval-2010 task 8, TACRED)."""
