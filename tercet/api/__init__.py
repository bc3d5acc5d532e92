"""What Python code calls, lazily exposed by `tercet` itself: train, load, embed, evaluate, compare, index, loss.

Each module is one of these; none but `train` needs an engine.
"""
