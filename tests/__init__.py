"""The test suite. Rooms: unit, property, typing, stress, crash, layout, c, leak, release, bench,
regress, model_protocol.

A package, so that test modules import `tests.model` and `tests.conftest` by one name everywhere,
child processes included.
"""
