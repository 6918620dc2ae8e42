"""SPE (Wang et al., EMNLP 2020): `method.py` is readable beside the paper."""
