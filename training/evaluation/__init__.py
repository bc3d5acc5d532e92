"""Evaluates a run on the data of its tasks: before it trains, while it trains and at its end."""
