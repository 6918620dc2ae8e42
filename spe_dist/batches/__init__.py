"""What methods share between records and batches: packing, random numbers, five spans, the loader."""
