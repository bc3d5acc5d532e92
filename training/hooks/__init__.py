"""Who is told of a run's progress. Only rank 0 has hooks, and none of them can stop a run."""
