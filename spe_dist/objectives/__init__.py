"""One file per objective of a paper: tensors in, losses and accuracies out."""
