"""Property tests: the store against the plain-Python model."""
