"""What a pair objective supplies to the kernel.

Every objective has this form, summed over the anchors i of both directions:

    L = Σ_side 1/(2n) Σ_i r_i (R_i − S_ii),    R_i a reduction of row i over all keys that may repel it,

S are the scaled similarities, plus the bias if the objective has one. An objective defines how tiles of a row are
reduced, the slope ∂R_i/∂S_ij of this reduction at each entry, and the weight r_i of a row. By default, the reduction is
the log-sum-exp of a softmax, and all rows have the same weight.
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
    """The results of each anchor after its row is reduced. Detached."""

    positive: Tensor
    reduced: Tensor

    @property
    def lse(self) -> Tensor:
        """The reduction under its usual name for softmax objectives."""
        return self.reduced


@dataclass(frozen=True)
class Objective:
    """A pair objective. Its fields are its config: the first inverse temperature, its bounds, and the first bias."""

    scale: float = 1 / 0.07
    bounds: tuple[float, float] = (1.0, 100.0)
    bias: float | None = None

    symmetric: ClassVar[bool] = False  # an entry counts the same in both directions, so one direction is enough

    def reduce(self, logits: Tensor) -> Tensor:
        """The reduction of each row over one tile `[anchors, keys]`; masked entries are −inf."""
        return torch.logsumexp(logits, dim=1)

    def merge(self, one: Tensor, other: Tensor) -> Tensor:
        """Combines the reductions of two tiles."""
        return torch.logaddexp(one, other)

    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        """∂R_i/∂S_ij on one tile; `reduced` broadcasts along the keys. Must not write to `logits`."""
        return (logits - reduced).exp_()

    def row_weight(self, row: Row) -> Tensor | None:
        """The weight of each anchor; None means 1."""
        return None

    def probability(self, row: Row) -> Tensor:
        """The probability that each anchor assigns to its positive."""
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
        raise UserError(
            f"objective.scale {built.scale:g} is not within objective.bounds [{low:g}, {high:g}]; change one of them"
        )
    return built
