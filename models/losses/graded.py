"""Graded pairs: each counts by its relevance (GCL, Zhu et al. 2024; partial matches as in EBind, 2025).

    L = Σ_i w_i l_i / Σ_i w_i,   l_i the InfoNCE loss of anchor i, w_i the relevance of its pair

A pair of relevance 0 is no positive, and both of its rows stay negatives of all others. The weights are divided by
their sum over the batch, so equal scores are InfoNCE, whatever their unit. GCL leaves out that division.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import objective
from tercet.models.losses.softmax import Softmax


@objective("graded")
class Graded(Softmax):
    """InfoNCE that weighs each pair by its relevance (GCL, Zhu et al. 2024)."""

    value: Annotated[str, Field(description="the name of the relevance in `data.values`")] = "relevance"

    @property
    def values(self) -> Sequence[str]:
        return (self.value,)

    def row_weight(self, row: Anchors) -> Tensor | None:
        weight_N = row.rows.extra[self.value].to(row.positive)
        return weight_N * (len(weight_N) / weight_N.sum()) if weight_N.sum() > 0 else torch.zeros_like(weight_N)
