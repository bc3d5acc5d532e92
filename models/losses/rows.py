"""The rows that a term compares: unit vectors of one field over all ranks, and what is known about each.

Shapes: N rows of all ranks, d dimensions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

NO_GROUP = torch.iinfo(torch.int64).min


@dataclass(frozen=True)
class Rows:
    """Rows of all ranks, in order of rank.

    `own` are the rows that this rank embedded and whose gradient it computes; it is empty for vectors that are not
    trained. Rows of the same item are positives of each other. Rows of one group but different items never repel each
    other. `declared`: the data says that these are negatives, so no objective may leave them out. `extra` has further
    values of each row, `[N, …]`. If the rows are sequences of tokens, `z_Nd` is `[N, L, d]`, padded with zero vectors.
    """

    z_Nd: Tensor
    own: slice
    item_N: Tensor
    group_N: Tensor
    id_N: Tensor
    declared: bool = False
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def numbered(z_Nd: Tensor, own: slice | None = None, group_N: Tensor | None = None) -> "Rows":
        """Row i belongs to item i. Every item is its own group unless `group_N` is given."""
        item_N = torch.arange(len(z_Nd), device=z_Nd.device)
        return Rows(z_Nd, own or slice(0, len(z_Nd)), item_N, item_N if group_N is None else group_N, item_N)

    @staticmethod
    def frozen(z_Nd: Tensor, group_N: Tensor | None = None, id_N: Tensor | None = None) -> "Rows":
        """Vectors of no item, which get no gradient. Without `group_N`, they may repel every anchor."""
        none_N = torch.full((len(z_Nd),), -1, device=z_Nd.device)
        group_N = torch.full_like(none_N, NO_GROUP) if group_N is None else group_N
        return Rows(z_Nd, slice(0, 0), none_N, group_N, none_N if id_N is None else id_N)

    def __len__(self) -> int:
        return len(self.z_Nd)

    @property
    def z_Ad(self) -> Tensor:
        return self.z_Nd[self.own]

    @property
    def number_N(self) -> Tensor:
        """The number of each row among the rows of its item, from 0. Rows must be in the order of their items."""
        first_N = torch.searchsorted(self.item_N, self.item_N)
        return torch.arange(len(first_N), device=first_N.device) - first_N

    def cut(self, part: slice) -> "Rows":
        return self._index(part, slice(0, part.stop - part.start))

    def pick(self, among_N: Tensor) -> "Rows":
        """The rows that a mask selects. No copy if it selects all."""
        if bool(among_N.all()):
            return self
        start = int(among_N[: self.own.start].sum())
        return self._index(among_N, slice(start, start + int(among_N[self.own].sum())))

    def negatives(self, declared: bool) -> "Rows":
        """The rows as extra negatives, which are positives of no anchor. If `declared`, they repel their own group."""
        group_N = torch.full_like(self.group_N, NO_GROUP) if declared else self.group_N
        return replace(self, item_N=torch.full_like(self.item_N, -1), group_N=group_N, declared=declared)

    def _index(self, index: slice | Tensor, own: slice) -> "Rows":
        extra = {name: value[index] for name, value in self.extra.items()}
        parts = (self.z_Nd[index], own, self.item_N[index], self.group_N[index], self.id_N[index])
        return Rows(*parts, self.declared, extra)


def items_of(fields: Iterable[Rows]) -> Tensor:
    """All items that have rows of these fields, ascending."""
    items: Tensor = torch.unique(torch.cat([rows.item_N for rows in fields]))
    return items
