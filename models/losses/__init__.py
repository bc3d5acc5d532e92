"""Objectives, and the tiled kernel that computes those of pairs. Nothing here keeps state."""

from tercet.models.losses import infonce, sigmoid
from tercet.models.losses.objective import Objective, build_objective, build_term, objective

__all__ = ["Objective", "build_objective", "build_term", "infonce", "objective", "sigmoid"]
