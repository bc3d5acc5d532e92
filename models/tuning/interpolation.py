"""The straight line between two models' weights: θ(α) = (1 - α) θ0 + α θ1 (WiSE-FT, Wortsman et al. 2022)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def interpolate(start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The weights at `alpha`; 0 and 1 return `start` and `end` exactly. Weights that only `end` has do not change."""
    return {name: _between(start.get(name), value, alpha) for name, value in end.items()}


def _between(start: Tensor | None, end: Tensor, alpha: float) -> Tensor:
    if start is None or not end.is_floating_point():
        return end
    return torch.lerp(start.to(end), end, alpha)
