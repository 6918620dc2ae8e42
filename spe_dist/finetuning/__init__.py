"""Fine-tuning of any task (see `task.py`): loop, run folder, data fractions, scores with intervals, tuning."""
