"""Relations between the entities of whole documents (DocRED), as a task of fine-tuning."""
