"""`spe doctor`: every node of a cluster, examined before a run."""
