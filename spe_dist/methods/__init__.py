"""Pre-training methods: a folder for each, listed in `registry.py`; `method.py` is what training asks of one."""
