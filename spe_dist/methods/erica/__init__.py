"""ERICA (Qin et al., ACL 2021): `method.py` is readable beside the paper."""
