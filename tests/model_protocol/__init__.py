"""The protocol of concurrency and death as an exhaustive model in C; see README.md."""
