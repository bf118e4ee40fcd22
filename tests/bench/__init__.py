"""The benchmark: `python -m tests.bench`. README.md says how it measures."""
