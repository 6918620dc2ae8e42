"""DeepSpeed behind one class, and the pure functions that decide what it is told."""
