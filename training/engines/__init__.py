"""Engines: the forward pass, the backward pass and the update of a model, on one process or several."""
