"""Training state that no topology has touched, in checkpoints that are complete or not there."""
