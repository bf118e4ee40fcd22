"""Many processes, threads, forks and signals at once: nothing is torn, lost, leaked or stuck."""
