"""Checkpoints of a run: how they are written, found by name and read, and the progress and plans that they hold."""
