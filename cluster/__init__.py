"""Where a run runs: Ray Train, Slurm, Kubernetes."""
