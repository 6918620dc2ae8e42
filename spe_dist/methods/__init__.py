"""One file per paper: which batch, which encoders, which objectives, which weights."""
