"""The interface of a selection rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from typing_extensions import dataclass_transform

from tercet.configs.registry import Registry, register_named
from tercet.data_pipelines.sample import Batch
from tercet.errors import RankError
from tercet.training.config import RunConfig
from tercet.training.loop.flops import Flops
from tercet.training.loop.step import Step
from tercet.training.memory.memory import Memory, StageContext
from tercet.training.selection.strata import Kept, Strata


@dataclass(frozen=True)
class SuperBatch:
    """This rank's part of the samples that a step draws, and the learner, which can score them."""

    batch: Batch
    step: int
    strata: Strata
    learner: Step

    @property
    def places(self) -> range:
        """The positions of this rank's samples in the super-batch. Its order does not depend on the number of ranks."""
        first = self.learner.world.rank * len(self.batch)
        return range(first, first + len(self.batch))

    def losses(self) -> Tensor:
        """The learner's loss of each of this rank's samples: the mean over its rows in all terms and directions. Each
        row is compared with the whole super-batch. NaN for a sample in no term. A collective."""
        vectors, temperatures = self.learner.embed(self.batch)
        known = self.learner.memories.known(self.batch)
        loss_N = self.learner.terms.item_losses(self.batch, vectors, temperatures, self.learner.world, known, self.step)
        return loss_N[self.places.start : self.places.stop]


class SelectionRule:
    """The base class of rules, which choose the samples that a step trains on. Its fields are options in a recipe.

    A rule that scores each sample by itself overrides `scores`. A rule that chooses samples jointly overrides `choose`.
    All ranks call a rule at the same time, so it may call collectives.
    """

    @property
    def memory(self) -> Memory | None:
        """What a checkpoint keeps of the rule."""
        return None

    def check(self, run: RunConfig) -> None:
        """Raises `UserError` if the rule cannot work in this run, or in this stage of it. Loads no weights."""

    def begin(self, context: StageContext) -> "SelectionRule":
        """The rule that chooses in a stage. A rule that needs more than its options, such as a second model, builds it
        here. All ranks call it once, before the first step of the stage."""
        return self

    def flops_of_scoring(self, drawn: SuperBatch, learner: Flops) -> int:
        """The FLOPs of scoring this rank's samples. `learner` counts those of the learner's towers."""
        return 0

    def scores(self, drawn: SuperBatch) -> Tensor:
        """A score for each of this rank's samples. Each stratum keeps its samples with the highest scores."""
        raise NotImplementedError

    def choose(self, drawn: SuperBatch) -> Kept:
        """The samples to keep: `drawn.strata.kept` of each stratum."""
        score_n = self.scores(drawn)
        if score_n.shape != drawn.batch.ids.shape:
            raise RankError(
                f"{type(self).__name__}.scores returned shape {list(score_n.shape)}; return {len(drawn.batch)} scores, "
                "one for each sample"
            )
        return drawn.strata.best(score_n)


Kind = TypeVar("Kind", bound=SelectionRule)
rules: Registry[type[SelectionRule]] = Registry("selection rule")


@dataclass_transform(frozen_default=True)
def selection_rule(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers a rule under the name that recipes use."""
    return register_named(rules, name)
