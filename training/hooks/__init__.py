"""The loggers of a run. Only rank 0 has them. A logger that fails does not stop the run."""
