"""One file per bug that was found: the shortest way to it."""
