"""Do the vectors of span pairs know words? Asked of any encoder with questions that nothing but words can answer."""
