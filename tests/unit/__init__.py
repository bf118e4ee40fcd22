"""Unit tests: one file for each theme of the public face."""
