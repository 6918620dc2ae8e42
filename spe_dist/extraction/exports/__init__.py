"""Fine-tuned extractors for fast prediction on CPUs, with a proof of what the export changes."""
