"""Tests of replaying: traces, reference, the loop over a store, the verb, and the bars."""
