"""What a run remembers from step to step besides weights and optimizer moments: averages, queues, values of samples.

`config.py` holds the configs of all memories and imports no torch; `memory.py` says what a memory does and when.
"""
