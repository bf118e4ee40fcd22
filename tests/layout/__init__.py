"""The layout: golden offsets, and the pure-Python decoder as a second witness beside the core."""
