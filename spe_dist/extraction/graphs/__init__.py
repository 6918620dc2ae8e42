"""What was found in texts as a graph: entities with their mentions are the nodes, relations between them the edges."""
