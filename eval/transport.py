"""Optimal transport with entropy (Cuturi 2013), by the iterations of Sinkhorn and Knopp.

The plan moves the mass of the rows of one set to those of another so that Σ plan · cost is small. Of all plans with
uniform margins, it has the least Σ plan · cost − ε · entropy(plan): the larger ε, the more each row spreads its mass.

Shapes: N and M rows, D dimensions.
"""

import math

import torch
from torch import Tensor


def transport_plan(cost_NM: Tensor, entropy: float, iterations: int) -> Tensor:
    """The plan. Its rows sum to 1/N exactly, and its columns to 1/M as far as the iterations have converged."""
    score_NM = -cost_NM / entropy
    row_N1, column_M = torch.zeros_like(score_NM[:, :1]), torch.zeros_like(score_NM[0])
    for _ in range(iterations):
        column_M = -math.log(score_NM.shape[1]) - (score_NM + row_N1).logsumexp(dim=0)
        row_N1 = -math.log(score_NM.shape[0]) - (score_NM + column_M).logsumexp(dim=1, keepdim=True)
    return (score_NM + row_N1 + column_M).exp()
