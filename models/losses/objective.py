"""What an objective supplies to the kernel.

The loss is any differentiable function of a few statistics of each anchor:

    L = f(statistics, positive logits, scale),    e.g. InfoNCE: L = Σ_directions 1/(2N) Σ_i (lse_i − S_ii),

where S are the scaled similarities, plus the bias if the objective has one. `statistics` says what is reduced over the
keys. `losses` combines the results to the loss of each anchor, and `row_weight` weighs it. Autograd differentiates this
function of a few vectors; the kernel does the rest, tile by tile. The defaults are those of InfoNCE.

Objectives keep no state. Values of samples come in as `rows.extra`.

Shapes: N anchors of all ranks, A anchors and K keys of one tile.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor
from typing_extensions import dataclass_transform

from tercet.configs.registry import Registry, build_named, register_named
from tercet.errors import UserError
from tercet.models.config import ObjectiveConfig
from tercet.models.losses.rows import Rows
from tercet.models.losses.statistics import LogSumExp, Statistic

Side = Literal["x", "y"]


@dataclass(frozen=True)
class Tile:
    """Logits of some anchors and some keys. `side` says which field of the term the anchors belong to.

    `positive` `[A, 1]` is the logit of each anchor and its own key, if every item has one row of each field.
    `results` `[A, 1]` has the statistics of earlier stages.
    """

    side: Side
    logits: Tensor
    anchors: Rows
    keys: Rows
    scale: Tensor
    positive: Tensor | None
    diagonal: int | None  # of the entries with the same item, if there is one such key for each anchor
    results: Mapping[str, Tensor]
    stage: int

    def same_item(self) -> Tensor:
        """Which keys belong to the item of the anchor, so are its positives `[A, K]`."""
        return self.anchors.item_N[:, None] == self.keys.item_N

    def others(self, values: Tensor, fill: float = -torch.inf) -> Tensor:
        """The values with `fill` at the keys of the anchor's own item. Do not write to the result."""
        if self.positive is None:
            return values.masked_fill(self.same_item(), fill)
        if self.diagonal is None:
            return values
        values = values.clone()
        values.diagonal(self.diagonal).fill_(fill)
        return values


@dataclass(frozen=True)
class Anchors:
    """The anchors of one direction over all ranks, with the results of their statistics, by name.

    `positive` is the logit of each anchor and its own key; zero for anchors that have none or several. `negatives` is
    the number of keys that may repel the anchor. `share` is the weight of the direction in the loss.
    """

    side: Side
    rows: Rows
    statistics: Mapping[str, Tensor]
    positive: Tensor
    negatives: Tensor
    scale: Tensor
    share: float

    def __getitem__(self, name: str) -> Tensor:
        return self.statistics[name]

    @property
    def lse(self) -> Tensor:
        """The log-sum-exp over the keys, which most objectives have."""
        return self.statistics["lse"]

    @property
    def open(self) -> Tensor:
        """Which anchors have a key in every statistic. The others have no loss."""
        open_N = torch.ones_like(self.positive, dtype=torch.bool)
        for value_N in self.statistics.values():
            open_N &= value_N != -torch.inf
        return open_N

    def detach(self) -> "Anchors":
        statistics = {name: value.detach() for name, value in self.statistics.items()}
        return replace(self, statistics=statistics, positive=self.positive.detach(), scale=self.scale.detach())


@dataclass(frozen=True)
class Objective:
    """A pair objective. Its fields are its config: the first inverse temperature, its bounds, and the first bias."""

    scale: float = 1 / 0.07
    bounds: tuple[float, float] = (1.0, 100.0)
    bias: float | None = None

    symmetric: ClassVar[bool] = False  # an entry counts the same in both directions, so one direction is enough
    stages: ClassVar[int] = 1  # how often the keys are read; `tile.results` has the statistics of earlier stages

    def scale_factor(self, cosine_N: Tensor) -> Tensor | None:
        """A constant factor on the scale, from the cosines of all positive pairs; None means 1."""
        return None

    def log_weights(self, tile: Tile) -> Tensor | None:
        """Constants `[A, K]` to add to the logits of the keys of other items. Must be finite; None means 0."""
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
        weight = self.row_weight(anchors.detach())
        losses = torch.where(anchors.open, self.losses(anchors), 0.0)
        return (losses if weight is None else weight * losses) * (anchors.share / max(len(losses), 1))

    def loss(self, directions: Sequence[Anchors]) -> Tensor:
        """The loss over all anchors of all directions."""
        return torch.stack([self.weighted(anchors).sum() for anchors in directions]).sum()

    def probability(self, row: Anchors) -> Tensor:
        """The probability that each anchor assigns to its positive."""
        return (row.positive - row.lse).exp()


Kind = TypeVar("Kind", bound=Objective)
_objectives: Registry[type[Objective]] = Registry("objective")


@dataclass_transform(frozen_default=True)
def objective(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers an objective under the name that recipes use."""
    return register_named(_objectives, name)


def build_objective(config: ObjectiveConfig) -> Objective:
    built = build_named(_objectives, config.name, config.model_extra or {})
    low, high = built.bounds
    if not 0 < low <= built.scale <= high:
        raise UserError(
            f"objective.scale {built.scale:g} is not within objective.bounds [{low:g}, {high:g}]; change one of them"
        )
    return built
