"""What a selection rule is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from typing_extensions import dataclass_transform

from tercet.configs.registry import Registry, register_named
from tercet.data_pipelines.sample import Batch
from tercet.errors import RankError
from tercet.training.selection.strata import Kept, Strata
from tercet.training.step import Step


@dataclass(frozen=True)
class SuperBatch:
    """The samples that a step draws, of which this rank holds `batch`, and the learner that may score them."""

    batch: Batch
    step: int
    strata: Strata
    learner: Step

    @property
    def places(self) -> range:
        """Where this rank's samples stand in the whole super-batch: the same at any number of processes."""
        first = self.learner.world.rank * len(self.batch)
        return range(first, first + len(self.batch))

    def losses(self) -> Tensor:
        """The learner's loss of each of this rank's samples: the mean over its rows in all terms and directions, each
        row against the whole super-batch. NaN where a sample is in no term. A collective."""
        vectors, temperatures = self.learner.embed(self.batch)
        frozen = self.learner.memories.frozen(self.batch)
        loss_N = self.learner.terms.item_losses(self.batch, vectors, temperatures, self.learner.world, frozen)
        return loss_N[self.places.start : self.places.stop]


class SelectionRule:
    """Chooses the samples of a super-batch that a step trains on. Its fields are its options in a recipe.

    A rule that scores each sample by itself overrides `scores`; one that scores samples together overrides `choose`.
    All ranks call a rule at the same time, so it may call collectives.
    """

    def scores(self, drawn: SuperBatch) -> Tensor:
        """A number for each of this rank's samples. The highest of each stratum stay."""
        raise NotImplementedError

    def choose(self, drawn: SuperBatch) -> Kept:
        """The samples that stay: as many of each stratum as `drawn.strata.kept`."""
        score_n = self.scores(drawn)
        if score_n.shape != drawn.batch.ids.shape:
            raise RankError(
                f"{type(self).__name__} gave scores of shape {list(score_n.shape)} to {len(drawn.batch)} samples"
            )
        return drawn.strata.best(score_n)


Kind = TypeVar("Kind", bound=SelectionRule)
rules: Registry[type[SelectionRule]] = Registry("selection rule")


@dataclass_transform(frozen_default=True)
def selection_rule(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers a rule under the name that recipes use."""
    return register_named(rules, name)
