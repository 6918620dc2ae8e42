"""Pre-training methods: a folder for each, listed in `registry.py`; `method.py` is what training asks of one.

spe/      SPE
enpar/    ENPAR
erica/    ERICA; CP is a setting of its relation discrimination     marked_collate.py
mlm/      masked language modelling; SpanBERT is a setting of it    span_masking.py, span_boundary.py
mtb/      MTB, matching the blanks
"""
