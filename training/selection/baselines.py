"""The baselines of joint selection: samples at random, and those that the learner finds hardest or easiest."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tercet.data_pipelines.seeding import uniforms
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule
from tercet.training.selection.strata import Kept


@selection_rule("random")
class RandomSelection(SelectionRule):
    """Samples at random: what any other rule has to beat."""

    def scores(self, drawn: SuperBatch) -> Tensor:
        score_n = uniforms("selection", drawn.learner.seed, drawn.step, drawn.places, 1)[:, 0]
        return torch.from_numpy(score_n).to(drawn.batch.ids.device)

    def choose(self, drawn: SuperBatch) -> Kept:
        """The scores are the same to the bit at any number of processes, so no pair can be swapped."""
        return replace(super().choose(drawn), near_ties=0)


@selection_rule("loss")
class LossSelection(SelectionRule):
    """The samples with the highest or the lowest loss of the learner. A sample that no term uses is dropped first."""

    keep: Literal["hardest", "easiest"] = "hardest"

    def scores(self, drawn: SuperBatch) -> Tensor:
        return drawn.losses() if self.keep == "hardest" else -drawn.losses()
