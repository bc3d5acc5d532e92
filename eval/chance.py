"""The score of chance in each metric: closed forms for a random order of the candidates.

With c right candidates among M, none of the first k is right with probability Π_{i<k} (M-c-i)/(M-i).
"""

import torch
from torch import Tensor


def hit_curve(positives: Tensor, candidates: int) -> Tensor:
    """P(a right candidate is among the first k) for k = 1 … M, the mean over queries with so many right ones."""
    counts, weight = torch.unique(positives, return_counts=True)
    place = torch.arange(candidates, dtype=torch.float64)
    missed = ((candidates - counts[:, None] - place).clamp(min=0) / (candidates - place)).cumprod(dim=1)
    found: Tensor = 1 - weight.double() / weight.sum() @ missed
    return found


def median_rank(positives: Tensor, candidates: int) -> float:
    """The first rank that half of the queries reach."""
    return float((hit_curve(positives, candidates) < 0.5 - 1e-12).sum() + 1)


def mean_rank(positives: Tensor, candidates: int) -> float:
    return float(((candidates + 1) / (positives.double() + 1)).mean())


def average_precision(positives: Tensor, candidates: int, depth: int) -> float:
    """Σ_r P(rank r is right) · E(precision at r given that) / min(c, depth)."""
    c = positives.double()[:, None]
    r = torch.arange(1, min(depth, candidates) + 1, dtype=torch.float64)
    precision = (1 + (r - 1) * (c - 1) / max(candidates - 1, 1)) / r
    return float(((c / candidates * precision).sum(dim=1) / positives.clamp(max=depth)).mean())
