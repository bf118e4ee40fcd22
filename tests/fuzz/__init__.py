"""Targets for fuzzers, run by hand: README.md has the commands."""
