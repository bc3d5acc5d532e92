"""Loggers of a run's progress. Only rank 0 has them, and none of them can stop a run."""
