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


def hit(positives: Tensor, candidates: int, k: int) -> float:
    """P(a right candidate is among the first k)."""
    return float(hit_curve(positives, candidates)[min(k, candidates) - 1])


def median_rank(positives: Tensor, candidates: int) -> float:
    """The first rank that half of the queries reach."""
    return float((hit_curve(positives, candidates) < 0.5 - 1e-12).sum() + 1)


def mean_rank(positives: Tensor, candidates: int) -> float:
    return float(((candidates + 1) / (positives.double() + 1)).mean())


def reciprocal_rank(positives: Tensor, candidates: int) -> float:
    """Σ_r P(the first right candidate has rank r) / r."""
    first = hit_curve(positives, candidates).diff(prepend=torch.zeros(1, dtype=torch.float64))
    return float((first / torch.arange(1, candidates + 1)).sum())


def precision(positives: Tensor, candidates: int, k: int) -> float:
    return float(positives.double().mean() / candidates * min(k, candidates) / k)


def r_precision(positives: Tensor, candidates: int) -> float:
    return float(positives.double().mean() / candidates)


def average_precision(positives: Tensor, candidates: int, depth: int, relevant: int | None = None) -> float:
    """Σ_r P(rank r is right) · E(precision at r given that) / min(c, depth); `relevant` replaces this last c."""
    counts, weight = torch.unique(positives, return_counts=True)
    c = counts.double()[:, None]
    r = torch.arange(1, min(depth, candidates) + 1, dtype=torch.float64)
    precision = (1 + (r - 1) * (c - 1) / max(candidates - 1, 1)) / r
    divisor = (counts if relevant is None else torch.full_like(counts, relevant)).clamp(max=depth)
    found = (c / candidates * precision).sum(dim=1) / divisor
    return float(weight.double() / weight.sum() @ found)


def ndcg(gain: Tensor, ideal: Tensor, candidates: int, depth: int) -> float:
    """Every rank has the mean gain of all candidates. `gain`: the sum of a query's gains."""
    discount = 1 / torch.log2(torch.arange(min(depth, candidates), dtype=torch.float64) + 2)
    return float((gain / candidates * discount.sum() / ideal).mean())


def rank_variance(positives: Tensor, candidates: Tensor) -> float:
    """E of the variance of best ranks that are independent, such as those in K languages.

    `positives` and `candidates` are `[N, K]`. The best of c among M has the mean (M+1)/(c+1) and the variance
    c(M+1)(M-c) / (c+1)²(c+2).
    """
    c, m = positives.double(), candidates.double()
    mean = (m + 1) / (c + 1)
    variance = c * (m + 1) * (m - c) / ((c + 1).square() * (c + 2))
    apart = mean.var(dim=1, correction=0)
    return float((variance.mean(dim=1) * (1 - 1 / c.shape[1]) + apart).mean())
