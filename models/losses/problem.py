"""What a term compares, and what comes out: the protocol between terms and objectives.

Shapes: N rows of all ranks, A of them this rank's own, d dimensions, K clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.modality import tokens_of, unnormalised_of
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.rows import Rows

# In the `extra` of rows:
LABEL = "label"  # the cluster of each row's sample, −1 if it has none
PARTNER = "mixup partner"  # the item that each row's item is mixed with; its own item if it is not mixed
SHARE = "mixup share"  # the item's own share of the mixture; 1 if it is not mixed


@dataclass(frozen=True)
class Prototypes:
    """The clusters that rows of one field are compared with. Constants, the same on all ranks.

    `centroid_Kd` are in the space of the rows. `exists_K`: which clusters have one; the others are left out.
    `teacher_Ke` are the centroids in the space where the clusters were found. Their products say how alike two clusters
    are.
    """

    centroid_Kd: Tensor
    exists_K: Tensor
    teacher_Ke: Tensor


@dataclass(frozen=True)
class Problem:
    """The rows of a term's fields over all ranks, and how to compare them.

    `against` has the extra negatives of the anchors of a field, by their names. `shares` are the weights of directions,
    by the field of the anchors, and add up to 1; without any, all directions count the same. `counts` says how many
    rows an item may have, for fields where it may have several. `paired` says which fields have rows that belong to the
    rows of another field, number by number. `averages` has the moving averages of the objective.
    `seed` is the same on all ranks and differs between steps. `tokens` has the tokens of fields, if the objective uses
    some, and `unnormalised` the vectors of fields before normalisation. `prototypes` has those of each field, if the
    objective uses some and there are any; the rows then have a `LABEL`. `progress` is the share of the stage's steps
    that are done. `references` are the names of the vectors of other models in `extra` of the rows, in alphabetical
    order.
    """

    fields: Mapping[str, Rows]
    scale: Tensor
    bias: Tensor | None
    tile: int
    world: World
    against: Mapping[str, Mapping[str, Rows]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    averages: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0
    tokens: Mapping[str, Rows] = field(default_factory=dict)
    unnormalised: Mapping[str, Rows] = field(default_factory=dict)
    prototypes: Mapping[str, Prototypes] = field(default_factory=dict)
    paired: Mapping[str, str] = field(default_factory=dict)
    progress: float = 0.0
    references: tuple[str, ...] = ()

    def numbers(self, one: str, other: str) -> list[tuple[int, int]]:
        """Which row numbers of two fields are compared: all combinations, or equal ones if the rows are paired."""
        first, second = self.counts.get(one, 1), self.counts.get(other, 1)
        if self.paired.get(one) == other or self.paired.get(other) == one:
            return [(number, number) for number in range(min(first, second))]
        return list(product(range(first), range(second)))


@dataclass(frozen=True)
class Update:
    """New values of samples, by `FIELD.COLUMN`, for the memory of a term. A sample may occur several times."""

    id_N: Tensor
    values: Mapping[str, Tensor]


@dataclass
class Solution:
    """The loss over all ranks, and its gradients: own rows by field, and scale and bias over all ranks.

    Gradients of tokens have the name `tokens_of(FIELD)`, those of vectors before normalisation the name
    `unnormalised_of(FIELD)`. `anchors` has the results of each direction, for objectives of pairs. `updates` and
    `averages` are new values for the memories of the term, and `measures` numbers for the metrics.
    """

    loss: Tensor
    rows: dict[str, Tensor]
    scale: Tensor
    bias: Tensor
    anchors: list[Anchors] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    averages: dict[str, Tensor] = field(default_factory=dict)
    measures: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def empty(problem: Problem) -> "Solution":
        """A loss of zero, to which parts are added."""
        known = dict(problem.fields)
        for more in problem.against.values():
            known |= more
        known |= {tokens_of(name): rows for name, rows in problem.tokens.items()}
        known |= {unnormalised_of(name): rows for name, rows in problem.unnormalised.items()}
        zero = problem.scale.new_zeros(())
        return Solution(zero, {name: torch.zeros_like(rows.z_Ad) for name, rows in known.items()}, zero, zero)

    def add(self, other: "Solution", weight: float = 1.0) -> None:
        self.loss = self.loss + weight * other.loss
        self.scale, self.bias = self.scale + weight * other.scale, self.bias + weight * other.bias
        for name, slope_Ad in other.rows.items():
            self.rows[name].add_(slope_Ad, alpha=weight)
        self.anchors += other.anchors
        self.updates += other.updates
