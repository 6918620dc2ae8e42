"""Objectives that several methods use: tensors in, losses and accuracies out."""
