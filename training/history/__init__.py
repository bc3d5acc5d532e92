"""The history of a run's evaluations: which was the best, when to stop, and what got worse."""
