"""What is on disk, and how fast: shmkv beside Redis, lmdb, pickle and a bare write."""
