"""The baselines of joint selection: samples at random, and those that the learner finds hardest or easiest."""

from typing import Literal

import torch
from torch import Tensor

from tercet.data_pipelines.seeding import uniforms
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule


@selection_rule("random")
class RandomSelection(SelectionRule):
    """Samples at random: what any other rule has to beat."""

    def scores(self, drawn: SuperBatch) -> Tensor:
        score_n = uniforms("selection", drawn.learner.seed, drawn.step, drawn.places, 1)[:, 0]
        return torch.from_numpy(score_n).to(drawn.batch.ids.device)


@selection_rule("loss")
class LossSelection(SelectionRule):
    """The samples with the highest or the lowest loss of the learner. A sample that no term uses is dropped first."""

    keep: Literal["hardest", "easiest"] = "hardest"

    def scores(self, drawn: SuperBatch) -> Tensor:
        return drawn.losses() if self.keep == "hardest" else -drawn.losses()
