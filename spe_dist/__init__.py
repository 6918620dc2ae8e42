"""Models, objectives, kernels, engine and training loop. Knows DeepSpeed, but no Ray and no cluster."""
