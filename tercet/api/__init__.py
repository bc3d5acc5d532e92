"""The public functions train, load, embed, evaluate, compare and index, which `tercet` exposes lazily.

Only `train` needs an engine.
"""
