"""Objectives on the one tiled kernel. Nothing here has state or knows of ranks beyond the `World` that it is handed."""

from tercet.models.losses import infonce, sigmoid
from tercet.models.losses.objective import Objective, build_objective, objective

__all__ = ["Objective", "build_objective", "infonce", "objective", "sigmoid"]
