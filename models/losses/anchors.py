"""What an objective sees: tiles of logits in the first pass, and the anchors with their results after it.

Shapes: N anchors of all ranks, A anchors and K keys of one tile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tercet.models.losses.rows import Rows

Side = Literal["x", "y"]


@dataclass(frozen=True)
class Tile:
    """Logits of some anchors and some keys. `side` says which field of the term the anchors belong to.

    `positive` `[A, 1]` is the logit of each anchor and its own key, if every item has one row of each field. `partners`
    are the rows of the anchors' field for the items of the keys, one for each key; None for extra negatives. `own` are
    the anchors' own keys, one for each anchor, if every item has one row of each field.
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
    partners: Rows | None = None
    own: Rows | None = None

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
    the number of keys that may repel the anchor, and `masked` that of other items' keys that may not, because of equal
    groups or `dropped`. `share` is the weight of the direction in the loss.
    """

    side: Side
    rows: Rows
    statistics: Mapping[str, Tensor]
    positive: Tensor
    negatives: Tensor
    masked: Tensor
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

    def without_infinities(self) -> "Anchors":
        """Zeros for the statistics of anchors that are not open, whose loss might be NaN otherwise."""
        open_N = self.open
        statistics = {name: torch.where(open_N, value, 0.0) for name, value in self.statistics.items()}
        return replace(self, statistics=statistics)

    def detach(self) -> "Anchors":
        statistics = {name: value.detach() for name, value in self.statistics.items()}
        return replace(self, statistics=statistics, positive=self.positive.detach(), scale=self.scale.detach())
