"""Tests of the command line: in this process by click's runner, and as processes of their own."""
