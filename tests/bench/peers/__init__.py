"""shmkv beside what a user would take instead; `python -m tests.bench.peers`, see README.md."""
