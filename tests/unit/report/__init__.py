"""Tests of the report: what is gathered, what is said, and how the page looks in a browser."""
