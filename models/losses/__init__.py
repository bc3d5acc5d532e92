"""Objectives, and the tiled kernel that computes those of pairs. Nothing here keeps state."""

from tercet.models.losses import (
    align_uniform,
    alip,
    cwcl,
    decoupled,
    graded,
    hard_negative,
    infonce,
    isogclr,
    listwise,
    macl,
    matryoshka,
    multi_positive,
    poly_view,
    sigmoid,
    soft,
    symile,
)
from tercet.models.losses.objective import Objective, build_objective, build_term, objective

__all__ = [
    "Objective",
    "align_uniform",
    "alip",
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
    "matryoshka",
    "multi_positive",
    "objective",
    "poly_view",
    "sigmoid",
    "soft",
    "symile",
]
