"""Joint extraction of entities and relations: annotated data, model, fine-tuning, scores, prediction."""
