"""Several models as one, whose vectors are those of all models one after the other.

Each part has unit vectors, and all are divided by the square root of the number of models. So the cosine of two vectors
is the mean of the cosines that the models find. This is how multistage contrastive learning (Zhang et al. 2024) puts
its stages together, each of which learns what those before it have suppressed.

Shapes: n rows, d dimensions of all models together.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.encoders.encoder import Encoder
from tercet.models.head import Head
from tercet.models.multimodal import Multimodal
from tercet.models.same_input import difference


class Concatenated(Encoder):
    """The towers of one modality, each with the head of its model."""

    projects = True

    def __init__(self, modality: str, models: Sequence[Multimodal]) -> None:
        super().__init__()
        self.modality, self.intake = modality, models[0].intakes[modality]
        self.width = sum(model.head.dim for model in models)
        self.towers = nn.ModuleList(model.tower(modality) for model in models)
        self.heads = nn.ModuleList(model.head for model in models)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._joined(tower(values, lengths) for tower in self._parts())

    def embed(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._joined(tower.embed(values, lengths) for tower in self._parts())

    def _parts(self) -> list[Encoder]:
        return [tower for tower in self.towers if isinstance(tower, Encoder)]

    def _joined(self, features: Iterable[Tensor]) -> Tensor:
        parts = [head(self.modality, one) for head, one in zip(self.heads, features, strict=True)]
        return torch.cat(parts, dim=-1) / math.sqrt(len(parts))


def concatenated(models: Sequence[tuple[str, Multimodal]]) -> Multimodal:
    """One model of the modalities that all of these have, which have a name each. They must read the same input."""
    (first, one), *others = models
    shared = [name for name in one.intakes if all(name in other.intakes for _, other in others)]
    if not shared:
        names = ", ".join(name for name, _ in models)
        raise UserError(f"{names}: these models have no modality in common, so they cannot be concatenated")
    for modality in shared:
        for name, other in others:
            fault = difference(other.intakes[modality], one.intakes[modality])
            if fault:
                raise UserError(f"{name} {fault} of {first}; only models with the same input can be concatenated")
    towers = {modality: Concatenated(modality, [model for _, model in models]) for modality in shared}
    head = Head(dict.fromkeys(shared), towers[shared[0]].width, {})
    return Multimodal(towers, head, [], shared).eval()
