"""What a pair objective supplies to the kernel.

Every objective here is, summed over anchors i of both directions,

    L = Σ_side 1/(2n) Σ_i r_i (R_i − S_ii),    R_i a reduction of row i over all keys that may repel it,

with S the scaled similarities, shifted by the bias where there is one. So an objective says how a row is reduced tile
by tile, the slope ∂R_i/∂S_ij that this reduction has at each entry, and how much a row counts. Unless it says
otherwise, the reduction is the log-sum-exp of a softmax, and every row counts the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor
from typing_extensions import dataclass_transform

from tercet.configs.registry import Registry, build_named, register_named
from tercet.errors import UserError
from tercet.models.config import ObjectiveConfig


@dataclass(frozen=True)
class Row:
    """What is known of each anchor when its row has been reduced. Detached."""

    positive: Tensor
    reduced: Tensor

    @property
    def lse(self) -> Tensor:
        """The reduction by its usual name, for objectives of the softmax type."""
        return self.reduced


@dataclass(frozen=True)
class Objective:
    """A pair objective. Its fields are its config: where the inverse temperature starts and may move, and the bias."""

    scale: float = 1 / 0.07
    bounds: tuple[float, float] = (1.0, 100.0)
    bias: float | None = None

    symmetric: ClassVar[bool] = False  # an entry weighs the same from either side: one direction is counted in full

    def reduce(self, logits: Tensor) -> Tensor:
        """A row's reduction over the keys of one tile `[anchors, keys]`; masked entries are −inf."""
        return torch.logsumexp(logits, dim=1)

    def merge(self, one: Tensor, other: Tensor) -> Tensor:
        """The reduction over two tiles from the reductions over each."""
        return torch.logaddexp(one, other)

    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        """∂R_i/∂S_ij on one tile; `reduced` broadcasts along the keys. Never writes to `logits`."""
        return (logits - reduced).exp_()

    def row_weight(self, row: Row) -> Tensor | None:
        """How much each anchor counts; nothing means 1."""
        return None

    def probability(self, row: Row) -> Tensor:
        """The probability that each anchor gives to its positive."""
        return (row.positive - row.reduced).exp()


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
        raise UserError(f"objective.scale {built.scale:g} is not within objective.bounds [{low:g}, {high:g}]")
    return built
