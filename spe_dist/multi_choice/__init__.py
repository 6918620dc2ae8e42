"""Questions with given candidates about several texts (WikiHop), as a task of fine-tuning."""
