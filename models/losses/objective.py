"""What an objective supplies to the kernel.

The loss is any differentiable function of a few statistics of each anchor:

    L = f(statistics, positive logits, scale),    e.g. InfoNCE: L = Σ_directions 1/(2N) Σ_i (lse_i − S_ii),

where S are the scaled similarities, plus the bias if the objective has one. `statistics` says what is reduced over the
keys. `losses` combines the results to the loss of each anchor, and `row_weight` weighs it. Autograd differentiates this
function of a few vectors; the kernel does the rest, tile by tile. The defaults are those of InfoNCE.

An objective over something else than pairs of fields overrides `solve`: the rows of the term's fields come in, the loss
and the gradient of each own row go out. It may use `solve_pairs` or the kernel for its parts.

Objectives keep no state. What they need beside the rows comes in as `rows.extra`: values of samples that a memory keeps
(`columns`, whose new values `update` returns), and vectors of another model (`references`). `problem.prototypes` has
centroids.

Shapes: N anchors of all ranks, A anchors and K keys of one tile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import dataclass_transform

from tercet.configs.registry import Registry, build_named, register_named
from tercet.errors import UserError, did_you_mean
from tercet.modality import of_memory
from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.pairs import losses_of_items, solve_pairs
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.statistics import LogSumExp, Statistic
from tercet.models.term_config import ObjectiveConfig, TermConfig

REFUSALS = {
    "against": "takes no extra negatives; remove it, or use a term with another objective for them",
    "directions": "does not weigh directions; remove it",
}


@dataclass(frozen=True)
class Objective:
    """Options of all objectives.

    The fields of a class are its options. Its docstring begins with what it does and, in brackets, where that was
    published: `tercet recipes ls --objectives` prints this, and `tercet recipes show --objective NAME` the options.
    """

    scale: Annotated[float, Field(description="the inverse temperature at first; each term learns its own")] = 1 / 0.07
    bounds: Annotated[
        tuple[float, float], Field(description="limits of the inverse temperature; it stays fixed if they are equal")
    ] = (1.0, 100.0)
    bias: Annotated[float | None, Field(description="what is added to all logits at first; null: nothing")] = None

    symmetric: ClassVar[bool] = False  # an entry counts the same in both directions, so one direction is enough
    fewest: ClassVar[int] = 2  # of the fields that a term compares
    beyond_two: ClassVar[bool] = False  # a term may compare more than two fields
    refused: ClassVar[tuple[str, ...]] = ()  # which of the options `against` and `directions` a term must not set
    several: ClassVar[bool] = (
        False  # all rows of an item are positives, in one matrix; else a term is a mean of matrices
    )
    probabilities: ClassVar[bool] = True  # whether each anchor has a `probability`
    references: ClassVar[tuple[str, ...]] = ()  # vectors of other models that the term must name
    optional_references: ClassVar[tuple[str, ...]] = ()  # those that it may name
    free_references: ClassVar[bool] = False  # it takes any number of them, by names that the term chooses
    gathered: ClassVar[bool] = True  # whether rows of different items are compared; else a rank has its own rows only
    prototypes: ClassVar[bool] = False  # whether the term must name a memory that has clusters and their centroids
    reads_cosines: ClassVar[bool] = False  # the rows are cosines with the learned prototypes of the term's projector
    may_read_cosines: ClassVar[bool] = False  # they may be such cosines, or vectors
    memory_tokens: ClassVar[bool] = False  # tokens may be those of a momentum encoder
    unnormalised: ClassVar[bool] = False  # uses the vectors before normalisation, which come in `problem.unnormalised`

    @property
    def mixes(self) -> bool:
        """Whether it learns the mixed targets of mixup."""
        return False

    @property
    def stages(self) -> int:
        """How often the keys are read; `tile.results` has the statistics of earlier stages."""
        return 1

    @property
    def hardest(self) -> int | None:
        """How many of the keys that repel an anchor count, the most similar ones, without declared negatives, which
        always count. None means all."""
        return None

    @property
    def values(self) -> Sequence[str]:
        """The numbers of each sample that the objective uses, by their names in `data.values`."""
        return ()

    @property
    def columns(self) -> Mapping[str, float]:
        """The values of each sample that the memory of the term keeps, by name, and what they are at first.

        They come in as `rows.extra`, and `update` returns the new ones.
        """
        return {}

    @property
    def averages(self) -> Mapping[str, float]:
        """Moving averages over the steps that the run keeps, by name, and what they are at first.

        They come in as `problem.averages`, and the solution has the new ones, which may be vectors.
        """
        return {}

    def tokens(self, between: Sequence[str]) -> Sequence[str]:
        """Of the fields that a term compares, those whose tokens the objective uses; they come in `problem.tokens`."""
        return ()

    def check(self, term: TermConfig) -> None:
        """Raises a UserError if the term cannot have this objective."""
        if len(term.between) > 2 and not self.beyond_two:
            raise UserError(
                f"terms.{term.name}: `{term.objective.name}` compares two fields, not {len(term.between)}; name two in "
                "`between`, or use an objective for several fields, such as symile"
            )
        for key in self.refused:
            if getattr(term, key):
                raise UserError(f"terms.{term.name}.{key}: `{term.objective.name}` {REFUSALS[key]}")
        if self.symmetric and term.directions:
            raise UserError(
                f"terms.{term.name}.directions: `{term.objective.name}` treats both directions alike; remove it"
            )

    def check_width(self, term: str, width: int) -> None:
        """Raises a UserError if the term cannot have this objective in a joint space of so many dimensions."""

    def solve(self, problem: Problem) -> Solution:
        """The loss of a term, and the gradients of this rank's own rows."""
        return solve_pairs(self, problem)

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        """For each part of the loss: its items, the loss of each, and the weight of the part."""
        return losses_of_items(self, problem)

    def scale_factor(self, cosine_N: Tensor) -> Tensor | None:
        """A constant factor on the scale, from the cosines of all positive pairs; None means 1."""
        return None

    def log_weights(self, tile: Tile) -> Tensor | None:
        """Constants `[A, K]` to add to the logits of the keys of other items. Must be finite; None means 0."""
        return None

    def excluded(self, tile: Tile) -> Tensor | None:
        """A mask `[A, K]` of keys that do not count at all, also among declared negatives. Must spare own keys."""
        return None

    def dropped(self, tile: Tile) -> Tensor | None:
        """A mask `[A, K]` of keys that are not to repel the anchor. Spares neither own keys nor declared negatives."""
        return None

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        """What to reduce over the keys. Must not write to the tile."""
        return {"lse": LogSumExp(tile.logits)}

    def losses(self, anchors: Anchors) -> Tensor:
        """The loss of each anchor `[N]`."""
        return anchors.lse - anchors.positive

    def row_weight(self, row: Anchors) -> Tensor | None:
        """A constant weight of each anchor; None means 1. `row.positive` and `row.lse` are the usual ingredients."""
        return None

    def weighted(self, anchors: Anchors) -> Tensor:
        """What each anchor contributes to the loss."""
        known = anchors.without_infinities()
        losses, weight = self.losses(known), self.row_weight(known.detach())
        weighted = losses if weight is None else weight * losses
        return torch.where(anchors.open, weighted, 0.0) * (anchors.share / max(len(losses), 1))

    def loss(self, directions: Sequence[Anchors]) -> Tensor:
        """The loss over all anchors of all directions."""
        return torch.stack([self.weighted(anchors).sum() for anchors in directions]).sum()

    def update(self, anchors: Anchors) -> dict[str, Tensor]:
        """The new values of each anchor's sample, by column `[N]`. A step that is not applied changes none."""
        return {}

    def probability(self, row: Anchors) -> Tensor:
        """The probability that each anchor assigns to its positive."""
        return (row.positive - row.lse).exp()


Kind = TypeVar("Kind", bound=Objective)
_objectives: Registry[type[Objective]] = Registry("objective")


@dataclass_transform(frozen_default=True)
def objective(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers an objective under the name that recipes use."""
    return register_named(_objectives, name)


def objective_names() -> list[str]:
    """All registered objectives, also those of plugins."""
    return _objectives.names()


def objective_class(name: str) -> type[Objective]:
    return _objectives.get(name)


def build_objective(config: ObjectiveConfig) -> Objective:
    built = build_named(_objectives, config.name, config.model_extra or {})
    low, high = built.bounds
    if not 0 < low <= built.scale <= high:
        raise UserError(
            f"objective.scale {built.scale:g} is not within objective.bounds [{low:g}, {high:g}]; change one of them"
        )
    return built


def build_term(term: TermConfig) -> Objective:
    """The objective of a term, checked."""
    built = build_objective(term.objective)
    if len(term.between) < built.fewest:
        raise UserError(
            f"terms.{term.name}.between: `{term.objective.name}` compares {built.fewest} or more fields, not "
            f"{len(term.between)}; name more, such as [image, text]"
        )
    built.check(term)
    for name in () if built.memory_tokens else filter(of_memory, built.tokens(term.between)):
        raise UserError(
            f"terms.{term.name}.between: `{term.objective.name}` compares tokens, and the memory of `{name}` has none; "
            "use an objective that compares vectors, such as infonce"
        )
    if {*built.tokens(term.between)} & {*term.sums}:
        raise UserError(
            f"terms.{term.name}.sums: `{term.objective.name}` compares tokens, which sums have not; remove it, or take "
            "an objective that compares vectors, such as infonce"
        )
    for name in built.references:
        if name not in term.references:
            raise UserError(
                f"terms.{term.name}.references: `{term.objective.name}` needs `{name}`; name the vectors to use, such "
                f"as references: {{{name}: NAME}} with a memory NAME of the kind teacher"
            )
    if built.free_references and not term.references:
        raise UserError(
            f"terms.{term.name}.references: `{term.objective.name}` needs a teacher or more; name them, such as "
            "references: {clip: NAME} with a memory NAME of the kind teacher"
        )
    for name in term.references if not built.free_references else ():
        known = (*built.references, *built.optional_references)
        if name not in known:
            raise UserError(
                f"terms.{term.name}.references: `{term.objective.name}` uses no `{name}`; "
                f"{did_you_mean(name, known) if known else 'remove it'}"
            )
    if built.prototypes and not term.prototypes:
        raise UserError(
            f"terms.{term.name}.prototypes: `{term.objective.name}` needs a memory that has clusters; name it, such as "
            "prototypes: NAME"
        )
    if term.prototypes and not built.prototypes:
        raise UserError(f"terms.{term.name}.prototypes: `{term.objective.name}` uses no clusters; remove it")
    return built
