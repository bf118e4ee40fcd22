"""Tests of what outlives the machine: files, directories, saving, coming back, the verbs."""
