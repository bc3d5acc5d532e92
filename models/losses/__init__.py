"""Objectives, and the tiled kernel that computes those of pairs. Nothing here keeps state."""

from tercet.models.losses import (
    cwcl,
    decoupled,
    graded,
    hard_negative,
    infonce,
    isogclr,
    listwise,
    macl,
    multi_positive,
    sigmoid,
    soft,
)
from tercet.models.losses.objective import Objective, build_objective, build_term, objective

__all__ = [
    "Objective",
    "build_objective",
    "build_term",
    "cwcl",
    "decoupled",
    "graded",
    "hard_negative",
    "infonce",
    "isogclr",
    "listwise",
    "macl",
    "multi_positive",
    "objective",
    "sigmoid",
    "soft",
]
