"""The samples that a selection left out of a step, as extra negatives of those that it kept.

So a step pays the backward pass for some samples, and compares them with all that were drawn, as multistage filtering
of data does: samples with a low loss skip the backward pass, and stay negatives of the others.
"""

from collections.abc import Mapping, Sequence

import torch

from tercet.data_pipelines.sample import Batch
from tercet.models.losses.rows import Rows
from tercet.training.memory.memory import Memory


class Unselected(Memory):
    """Keeps vectors from the selection of a step to its loss. A checkpoint needs none of them."""

    def __init__(self, fields: Sequence[str], dim: int, device: torch.device) -> None:
        self.fields_left_out = tuple(fields)
        self.none = Rows.frozen(torch.zeros(0, dim, device=device))
        self.rows: Mapping[str, Rows] = {}

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return {field: self.rows.get(field, self.none) for field in self.fields_left_out}

    def leave_out(self, rows: Mapping[str, Rows]) -> None:
        self.rows = {name: Rows.frozen(one.z_Nd, one.group_N, one.id_N) for name, one in rows.items()}
