"""Records → batches: spans, permutations, masks and views, in whole-array steps."""
