"""Memories keep values from step to step: averages of weights, queues of vectors, values of samples.

`config.py` holds the configs of all memories and imports no torch. `memory.py` describes what a memory does and when.
"""
