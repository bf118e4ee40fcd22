"""Metrics: what is exported, where it is served, and that the monitoring examples fit."""
