"""Sharing models on the Hugging Face hub; downloading them is in `data_shards/hub.py`."""
