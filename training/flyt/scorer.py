"""What scores a pair: a small network over its vectors (FLYT), or a mixture of columns (M-FLYT).

The network is a gated linear unit. It departs from the authors' in what it reads: beside both vectors, their product by
dimension, because whether two vectors fit is a property of products.

Shape letters: n pairs, d dimensions, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import glu


class VectorScorer(nn.Module):
    """A score from the two vectors of a pair."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * dim, 2 * width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)  # so that all pairs have the same weight at first
        nn.init.zeros_(self.out.bias)

    def forward(self, feature_nF: Tensor) -> Tensor:
        score_n: Tensor = self.out(glu(self.hidden(feature_nF))).squeeze(1)
        return score_n


class Mixture(nn.Module):
    """A weighted sum of columns, each with a mean of 0 and a deviation of 1. A missing value counts as the mean."""

    mean_F: Tensor
    deviation_F: Tensor

    def __init__(self, mean_F: Tensor, deviation_F: Tensor) -> None:
        super().__init__()
        self.weight_F = nn.Parameter(torch.zeros(len(mean_F)))
        self.register_buffer("mean_F", mean_F)
        self.register_buffer("deviation_F", deviation_F)

    @classmethod
    def of(cls, feature_NF: Tensor) -> "Mixture":
        """For columns such as these, in which NaN is a missing value."""
        known_NF = feature_NF.isfinite()
        count_F = known_NF.sum(dim=0).clamp(min=1)
        mean_F = feature_NF.where(known_NF, 0).sum(dim=0) / count_F
        square_F = (feature_NF - mean_F).where(known_NF, 0).square().sum(dim=0) / count_F
        return cls(mean_F, square_F.sqrt().clamp(min=1e-12))

    def forward(self, feature_nF: Tensor) -> Tensor:
        standard_nF = (feature_nF - self.mean_F) / self.deviation_F
        score_n: Tensor = standard_nF.where(feature_nF.isfinite(), 0) @ self.weight_F
        return score_n


def features_of(one_nd: Tensor, other_nd: Tensor) -> Tensor:
    """What a `VectorScorer` reads, all of about unit size."""
    size = one_nd.shape[1] ** 0.5
    return torch.cat([size * one_nd, size * other_nd, size**2 * one_nd * other_nd], dim=1)
