"""API examples that a strict type checker must accept, and misuse that it must refuse."""
