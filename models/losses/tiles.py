"""Tiles of logits, as the two directions of a term see them.

Shapes: N rows of all ranks, A anchors and K keys of one tile.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tercet.models.losses.anchors import Side, Tile
from tercet.models.losses.rows import Rows
from tercet.models.losses.statistics import Partial, Statistic, Threshold

if TYPE_CHECKING:
    from tercet.models.losses.objective import Objective

HARDEST = -1  # the stage before all others, if only the hardest negatives count: it finds how hard they must be
ROUNDING = 1e-6  # of a cosine


@dataclass(frozen=True)
class Block:
    """One matrix of logits: own rows of `p` against all rows of `q`.

    `forward` is the direction whose anchors are p, `backward` the one whose anchors are q. `paired`: row k of both is
    the same item.
    """

    p: Rows
    q: Rows
    forward: Side | None
    backward: Side | None = None
    paired: bool = False

    def turned(self) -> "Block":
        return Block(self.q, self.p, self.backward, self.forward, self.paired)

    def halves(self) -> list["Block"]:
        """A block for each direction, whose anchors are p."""
        return [replace(one, backward=None) for one in (self, self.turned()) if one.forward]

    def columns(self, width: int) -> Iterator[tuple[slice, bool]]:
        """The tiles' columns, and whether a tile has rows of one group but different items. At least one tile."""
        masked = self._masked() // width
        tiles = set(masked.tolist())
        for start in range(0, max(len(self.q), 1), width):
            yield slice(start, min(start + width, len(self.q))), start // width in tiles

    def _masked(self) -> Tensor:
        """The columns that may need a mask."""
        if self.q.declared:
            return self.q.item_N[:0]
        if self.paired:
            _, index_N, counts = torch.unique(self.q.group_N, return_inverse=True, return_counts=True)
            return torch.nonzero(counts[index_N] > 1).flatten()
        return torch.nonzero(torch.isin(self.q.group_N, self.p.group_N)).flatten()


@dataclass(frozen=True)
class View:
    """A tile of one direction, whose anchors are `part` of those of all ranks. `closed` keys do not count."""

    objective: "Objective"
    tile: Tile
    part: slice
    closed: Tensor | None

    @staticmethod
    def of(objective: "Objective", tile: Tile, part: slice, closed: Tensor | None) -> "View":
        """Adds the objective's weights to the logits, and its masks to the closed keys."""
        dropped = None if tile.keys.declared else objective.dropped(tile)
        weight_AK = objective.log_weights(tile)
        if weight_AK is not None:
            tile = replace(tile, logits=tile.logits + tile.others(weight_AK, 0.0))
        masks = [] if dropped is None else [tile.others(dropped, False)]
        excluded = objective.excluded(tile)
        if excluded is not None:
            masks.append(excluded)
        if "hardest" in tile.results and not tile.keys.declared:
            # Less than the threshold by more than rounding, so that keys which are the same stay together.
            easy = tile.logits < tile.results["hardest"] - ROUNDING * tile.scale
            masks.append(tile.others(easy, False))
        for mask in masks:
            closed = mask if closed is None else mask | closed
        return View(objective, tile, part, closed)

    def statistics(self) -> dict[str, Statistic]:
        tile, k = self.tile, self.objective.hardest
        if tile.stage == HARDEST and k is not None:
            counts_AK = torch.full_like(tile.logits, -torch.inf) if tile.keys.declared else tile.others(tile.logits)
            found: Mapping[str, Statistic] = {"hardest": Threshold(counts_AK, k)}
        else:
            found = self.objective.statistics(tile)
        if self.closed is None:
            return dict(found)
        return {name: statistic.masked(self.closed) for name, statistic in found.items()}

    def counts(self) -> Tensor:
        """The logit of each anchor's own key, 0 if it is not in the tile, and the numbers of its negatives and of its
        masked keys `[3, A]`."""
        tile = self.tile
        counts = tile.logits.new_zeros(3, len(tile.anchors))
        counts[1] = len(tile.keys)
        if self.closed is not None:
            counts[2] = self.closed.sum(dim=1)
            counts[1] -= counts[2]
        if tile.positive is None:
            counts[1] -= tile.same_item().sum(dim=1)
        elif tile.diagonal is not None:
            own = tile.logits.diagonal(tile.diagonal)
            first = max(0, -tile.diagonal)
            counts[0, first : first + len(own)] = own
            counts[1, first : first + len(own)] -= 1
        return counts

    def slopes(self, results: Mapping[str, Tensor], coefficients: Mapping[str, Tensor]) -> Tensor | None:
        """∂L/∂S `[A, K]` through the statistics of these anchors, where `coefficients` are ∂L/∂result. None means 0."""
        columns, factors = (
            {name: value_N[self.part, None] for name, value_N in of.items()} for of in (results, coefficients)
        )
        whole: Tensor | None = None
        for stage in range(self.objective.stages):
            view = replace(self, tile=replace(self.tile, stage=stage))
            for name, statistic in view.statistics().items():
                slope = statistic.slopes(name, columns, factors[name]) if name in factors else None
                if slope is not None:
                    whole = slope if whole is None else whole.add_(slope)
        return whole


class Running:
    """The statistics of some anchors over the tiles so far."""

    def __init__(self) -> None:
        self.kinds: dict[str, type[Statistic]] = {}
        self.partials: dict[str, Partial] = {}
        self.counts: Tensor | None = None

    def add(self, view: View) -> None:
        for name, statistic in view.statistics().items():
            kind, partial = type(statistic), statistic.reduce()
            self.partials[name] = kind.merge(self.partials[name], partial) if name in self.partials else partial
            self.kinds[name] = kind
        self.counts = view.counts() if self.counts is None else self.counts + view.counts()

    def results(self) -> dict[str, Tensor]:
        """The results of each anchor by name, with its own key's logit and its numbers of negatives and masked keys."""
        assert self.counts is not None
        found = {"positive": self.counts[0], "negatives": self.counts[1], "masked": self.counts[2]}
        for name, partial in self.partials.items():
            found |= self.kinds[name].results(name, partial)
        return found

    @staticmethod
    def joined(parts: Sequence["Running"]) -> "Running":
        """The statistics of the anchors of all parts."""
        whole = Running()
        whole.kinds = parts[0].kinds
        for name in whole.kinds:
            whole.partials[name] = tuple(map(torch.cat, zip(*(part.partials[name] for part in parts), strict=True)))
        whole.counts = torch.cat([part.counts for part in parts if part.counts is not None], dim=1)
        return whole
