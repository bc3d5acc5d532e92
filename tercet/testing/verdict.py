"""Raises one plain sentence about what is wrong with a component."""

from collections.abc import Sequence

import torch
from torch import Tensor


def demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def demand_equal(found: Tensor | Sequence[Tensor], expected: Tensor | Sequence[Tensor], sentence: str) -> None:
    """Compares up to rounding in the precision of the values, relative to the largest of them."""
    ones, others = ([side] if isinstance(side, Tensor) else side for side in (found, expected))
    demand(all(near(one.detach(), other.detach()) for one, other in zip(ones, others, strict=True)), sentence)


def near(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not torch.isfinite(one).all():
        return False
    tolerance = 1e-9 if one.dtype == torch.float64 else 2e-4
    scale = float(other.abs().max()) if other.numel() else 0.0
    return bool(((one - other.to(one.dtype)).abs() <= tolerance * max(scale, 1e-6)).all())
