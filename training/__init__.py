"""The loop, its engine, and everything that a run remembers."""
