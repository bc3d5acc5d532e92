"""Objectives, and the tiled kernel that computes those of pairs. Nothing here keeps state."""

from tercet.models.losses import cwcl, decoupled, hard_negative, infonce, macl, sigmoid, soft
from tercet.models.losses.objective import Objective, build_objective, build_term, objective

__all__ = [
    "Objective",
    "build_objective",
    "build_term",
    "cwcl",
    "decoupled",
    "hard_negative",
    "infonce",
    "macl",
    "objective",
    "sigmoid",
    "soft",
]
