"""The public functions train, load, embed, evaluate, compare, export, push and index, which `tercet` exposes lazily.

Only `train` needs an engine.
"""
