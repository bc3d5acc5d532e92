"""Similarity distillation: a teacher says how much of the target each key is.

    L_i = −Σ_j t_ij log P_ij,    t_i = (1 − λ) · (its own key) + λ · softmax_j(⟨teacher_i, teacher_j⟩ / temperature)

`cross` compares the teacher's vector of the anchor with its vectors of the keys. The teacher has both fields, such as a
larger CLIP model, and passes on its logits (contrastive relational distillation of CLIP-KD, Yang et al. 2024; HyCD of
CLIP-Refine, Yamaguchi et al. 2025, whose λ is 1/2; its temperature of 1 divides products of vectors before
normalisation). `relational` compares the items of the anchor and
of the keys, by the teacher's vectors of the anchor's field. Each field may then have a teacher of its own, such as a
self-supervised image tower or a sentence encoder.

Several teachers, as references {teacher: A, teacher_2: B}, make an ensemble whose target is the mean of their
probabilities (MobileCLIP, Vasu et al. 2024), each at its own temperature.

The target is a constant. The cross entropy differs from the KL divergence of these papers by a constant, and is not
multiplied by the square of the temperature. Keys of the anchor's own group count neither in the target nor in P. Extra
negatives are part of the target only if the comparison is `cross` and the teacher has vectors of them.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.statistics import Mean, Statistic
from tercet.models.term_config import TermConfig
from tercet.plural import number_of

TEACHERS = ("teacher", "teacher_2", "teacher_3", "teacher_4")  # the names of an ensemble


@objective("soft")
class Soft(Objective):
    """InfoNCE whose target comes in part from a teacher (CLIP-KD, Yang et al. 2024; Yamaguchi et al. 2025)."""

    weight_soft: Annotated[
        float, Field(ge=0, le=1, description="λ, the teacher's share of the target; 1: only the teacher counts")
    ] = 0.5
    temperature: Annotated[
        float,
        Field(gt=0, description="divides the teacher's cosines; use the teacher's own: 0.01 for most CLIP models"),
    ] = 0.05
    further_temperatures: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(description="those of `teacher_2`, `teacher_3` and `teacher_4`; default: `temperature` for all"),
    ] = ()
    similarities: Annotated[
        Literal["cross", "relational"],
        Field(
            description="what the teacher compares: cross, the anchor with the keys; relational, the items of both in "
            "the anchor's field"
        ),
    ] = "cross"

    references: ClassVar[tuple[str, ...]] = TEACHERS[:1]
    optional_references: ClassVar[tuple[str, ...]] = TEACHERS[1:]

    def check(self, term: TermConfig) -> None:
        super().check(term)
        further = [name for name in TEACHERS[1:] if name in term.references]
        if self.further_temperatures and len(self.further_temperatures) != len(further):
            raise UserError(
                f"terms.{term.name}.objective.further_temperatures: has {len(self.further_temperatures)}, but "
                f"`references` names {number_of(len(further), 'further teacher')}; give one for each"
            )

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        found = super().statistics(tile)
        keys = tile.partners if self.similarities == "relational" else tile.keys
        if keys is None:
            return found
        known = [name for name in TEACHERS if name in keys.extra]
        further = self.further_temperatures or (self.temperature,) * len(TEACHERS)
        for name, temperature in zip(known, (self.temperature, *further), strict=False):
            teacher_Ad, teacher_Kd = (rows.extra[name].to(tile.logits.dtype) for rows in (tile.anchors, keys))
            found = {**found, f"by {name}": Mean(tile.logits, teacher_Ad @ teacher_Kd.T / temperature)}
        return found

    def losses(self, anchors: Anchors) -> Tensor:
        taught = [anchors[f"by {name}"] for name in TEACHERS if f"by {name}" in anchors.statistics]
        return anchors.lse - anchors.positive.lerp(torch.stack(taught).mean(dim=0), self.weight_soft)
