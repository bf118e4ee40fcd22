"""Tests of the room `shmkv/daemon`, of the verb, and of `open(..., daemon=True)`."""
