"""Pair objectives and the tiled kernel that computes them. Nothing here keeps state."""

from tercet.models.losses import infonce, sigmoid
from tercet.models.losses.objective import Objective, build_objective, objective

__all__ = ["Objective", "build_objective", "infonce", "objective", "sigmoid"]
