"""Which candidates are right answers of which queries.

Shape letters: Q queries, C candidates, T queries of a tile, P right answers that a query of a tile has at most.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """The right answers of a tile of queries, sorted by candidate: the query, the candidate, and the answer's number
    among those of its query."""

    row: Tensor
    column: Tensor
    nth: Tensor

    def within(self, first: int, stop: int) -> "Pairs":
        """Those of the candidates from `first` on, which count from there, and before `stop`."""
        start, end = torch.searchsorted(self.column, torch.tensor([first, stop])).tolist()
        return Pairs(self.row[start:end], self.column[start:end] - first, self.nth[start:end])

    def to(self, device: torch.device) -> "Pairs":
        return Pairs(*(places.to(device) for places in self))


@dataclass(frozen=True)
class Rights:
    """The right answers of query q: the candidates `column[start_Q[q] : start_Q[q] + count_Q[q]]`, and their grades."""

    start_Q: Tensor
    count_Q: Tensor
    column: Tensor
    grade: Tensor | None = None

    @classmethod
    def of_groups(cls, query_group: Tensor, candidate_group: Tensor) -> "Rights":
        """The candidates of a query's group are right."""
        column = candidate_group.argsort(stable=True)
        start_Q = torch.searchsorted(candidate_group[column], query_group)
        stop_Q = torch.searchsorted(candidate_group[column], query_group, right=True)
        return cls(start_Q, stop_Q - start_Q, column)

    def of_tile(self, first: int, stop: int) -> tuple[Pairs, Tensor | None]:
        """The pairs of some queries, and the grades `[T, P]` if there are any."""
        start_T, count_T = self.start_Q[first:stop], self.count_Q[first:stop]
        row = torch.arange(len(count_T)).repeat_interleave(count_T)
        nth = torch.arange(len(row)) - (count_T.cumsum(0) - count_T)[row]
        place = start_T[row] + nth
        grade_TP = None
        if self.grade is not None:
            grade_TP = torch.zeros(len(count_T), max(int(count_T.max()), 1), dtype=torch.float64)
            grade_TP[row, nth] = self.grade[place].double()
        order = self.column[place].argsort(stable=True)
        return Pairs(row[order], self.column[place][order], nth[order]), grade_TP
