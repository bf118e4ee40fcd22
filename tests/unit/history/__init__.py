"""Unit tests of what is remembered of a store."""
