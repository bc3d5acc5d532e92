"""Baselines of selection: random samples, and the samples with the highest or lowest loss."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tercet.data_pipelines.seeding import uniforms
from tercet.training.loop.flops import Flops, rows_of
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule
from tercet.training.selection.strata import Kept


@selection_rule("random")
class RandomSelection(SelectionRule):
    """Selects samples at random. Compare other rules with it."""

    def scores(self, drawn: SuperBatch) -> Tensor:
        score_n = uniforms("selection", drawn.learner.seed, drawn.step, drawn.places, 1)[:, 0]
        return torch.from_numpy(score_n).to(drawn.batch.ids.device)

    def choose(self, drawn: SuperBatch) -> Kept:
        # The scores are bit-identical for any number of processes, so no pair can be swapped. They are random, so
        # metrics and the report leave them out.
        return replace(super().choose(drawn), near_ties=0, scores=None)


@selection_rule("loss")
class LossSelection(SelectionRule):
    """Selects the samples with the learner's highest or lowest loss. It drops samples that no term uses first."""

    keep: Literal["hardest", "easiest"] = "hardest"

    def scores(self, drawn: SuperBatch) -> Tensor:
        return drawn.losses() if self.keep == "hardest" else -drawn.losses()

    def flops_of_scoring(self, drawn: SuperBatch, learner: Flops) -> int:
        return learner.scoring(rows_of(drawn.batch))
