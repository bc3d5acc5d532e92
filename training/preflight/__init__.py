"""The checks before a run builds its model."""
