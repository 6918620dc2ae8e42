"""How fast parts of a run are, measured on the machine at hand."""
