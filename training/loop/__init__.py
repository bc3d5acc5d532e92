"""The training loop of a stage: its steps, what they cost, and what is measured while they run."""
