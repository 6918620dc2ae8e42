"""ENPAR (Wang et al., EACL 2021): `method.py` is readable beside the paper."""
