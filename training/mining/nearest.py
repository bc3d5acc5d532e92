"""The exact nearest candidates of a piece of queries, over any number of pieces of candidates.

Memory holds one tile of scores and the best candidates so far. The score of two samples is the largest cosine between
their rows, because a sample may have several captions. Of equal scores the smaller id comes first: a score and an id
are packed into one integer, and no two integers are equal, so the result depends on no order of computation.

Shape letters: q queries, c candidates, k best, p pairs, R rows of queries, S rows of candidates, D dimensions.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tercet.eval.products import inner
from tercet.training.mining.equal import Ids, Marks

TILE = 2**24  # scores in memory
NOTHING = torch.iinfo(torch.int64).min
LOW = 2**32 - 1
FEW = 4  # candidates of a tile for each of the best, above which only the best of the tile are compared
NONE = -1  # the id where there are fewer candidates


@dataclass(frozen=True)
class Piece:
    """Samples that have a modality: their ids (ascending), their unit vectors, the sample of each, and their marks."""

    id_n: Ids
    rows_RD: Tensor
    item_R: Tensor
    marks: Mapping[str, Marks]

    @property
    def several(self) -> bool:
        """Whether some sample has several rows."""
        return len(self.item_R) > len(self.id_n)


@dataclass(frozen=True)
class Found:
    """The best candidates of each query, best first, and how many candidates were left out because they are equal."""

    id_qk: Ids
    score_qk: NDArray[np.float32]
    equal: Mapping[str, int]
    compared: int  # pairs of a query and another sample


class Nearest:
    """The best candidates of these queries so far. `add` compares the queries with another piece of candidates."""

    def __init__(self, queries: Piece, k: int, device: torch.device) -> None:
        self._queries, self._device = queries, device
        self._key_qk = torch.full((len(queries.id_n), k), NOTHING, device=device)
        self._equal, self._compared = Counter[str](), 0

    def add(self, candidates: Piece) -> None:
        count = len(candidates.id_n)
        if not count or not len(self._queries.id_n):
            return
        rows_SD, item_S = candidates.rows_RD.to(self._device), candidates.item_R.to(self._device)
        id_c = torch.from_numpy(candidates.id_n).to(self._device)
        equal_qc = torch.from_numpy(self._equals(candidates)).to(self._device)
        for some, score_qc in self._tiles(rows_SD):
            if candidates.several:
                score_qc = _largest(score_qc, item_S, count, dim=1)
            if self._queries.several:
                item_R = self._queries.item_R[some.rows].to(self._device) - some.queries.start
                score_qc = _largest(score_qc, item_R, some.queries.stop - some.queries.start, dim=0)
            score_qc.masked_fill_(equal_qc[some.queries], -torch.inf)
            self._key_qk[some.queries] = _best(self._key_qk[some.queries], score_qc, id_c)

    def found(self) -> Found:
        id_qk, score_qk = _unpacked(self._key_qk.cpu())
        return Found(id_qk.numpy(), score_qk.numpy(), self._equal, self._compared)

    def _tiles(self, rows_SD: Tensor) -> Iterator[tuple["_Some", Tensor]]:
        """Scores of some queries with all candidates. All rows of a query are in one tile."""
        queries = self._queries
        most = max(TILE // max(len(rows_SD), 1), 1)
        first_n = torch.searchsorted(queries.item_R, torch.arange(len(queries.id_n) + 1)).tolist()
        bounds = [0]
        for query in range(1, len(queries.id_n) + 1):
            if first_n[query] - first_n[bounds[-1]] > most and query - 1 > bounds[-1]:
                bounds.append(query - 1)
        for start, stop in pairwise([*bounds, len(queries.id_n)]):
            rows = slice(first_n[start], first_n[stop])
            yield _Some(slice(start, stop), rows), inner(queries.rows_RD[rows].to(self._device), rows_SD)

    def _equals(self, candidates: Piece) -> NDArray[np.bool_]:
        """Which candidates are equal to which queries. Each pair counts once, under the first kind of its marks."""
        equal_qc = np.zeros((len(self._queries.id_n), len(candidates.id_n)), dtype=np.bool_)
        self._mark(equal_qc, candidates, self._queries.id_n, self._queries.id_n)
        self._compared += equal_qc.size - np.count_nonzero(equal_qc)
        for kind, marks in self._queries.marks.items():
            self._equal[kind] += self._mark(equal_qc, candidates, *marks.shared(candidates.marks[kind]))
        return equal_qc

    def _mark(self, equal_qc: NDArray[np.bool_], candidates: Piece, id_p: Ids, other_p: Ids) -> int:
        """Marks pairs of ids, and returns how many were not marked before."""
        row_p, query_p = _places(self._queries.id_n, id_p)
        column_p, candidate_p = _places(candidates.id_n, other_p)
        both_p = query_p & candidate_p
        before = np.count_nonzero(equal_qc)
        equal_qc[row_p[both_p], column_p[both_p]] = True
        return int(np.count_nonzero(equal_qc) - before)


@dataclass(frozen=True)
class _Some:
    """Consecutive queries, and their rows."""

    queries: slice
    rows: slice


def own_scores(queries: Piece, candidates: Piece) -> NDArray[np.float32]:
    """The smallest cosine between the rows of each query and its own rows among the candidates; NaN without any."""
    row_p, column_p = (torch.from_numpy(at) for at in _rows_by_sample(queries).shared(_rows_by_sample(candidates)))
    score_p = (queries.rows_RD[row_p] * candidates.rows_RD[column_p]).sum(dim=1)
    own_q = torch.full((len(queries.id_n),), torch.inf).scatter_reduce_(0, queries.item_R[row_p], score_p, "amin")
    return own_q.masked_fill(own_q == torch.inf, torch.nan).numpy()


def _rows_by_sample(piece: Piece) -> Marks:
    return Marks.of(piece.id_n[piece.item_R.numpy()].astype(np.uint64), np.arange(len(piece.item_R)))


def _places(id_n: Ids, id_p: Ids) -> tuple[Ids, NDArray[np.bool_]]:
    """Where each id is among ascending ones, and whether it is there."""
    at_p = np.searchsorted(id_n, id_p).clip(max=len(id_n) - 1)
    return at_p, id_n[at_p] == id_p


def _largest(score: Tensor, item: Tensor, count: int, dim: int) -> Tensor:
    """The largest score of the rows of each sample."""
    shape = [count, score.shape[1]] if dim == 0 else [score.shape[0], count]
    index = (item[:, None] if dim == 0 else item).expand_as(score)
    return score.new_full(shape, -torch.inf).scatter_reduce_(dim, index, score, "amax")


def _best(key_qk: Tensor, score_qc: Tensor, id_c: Tensor) -> Tensor:
    """The best of the best so far and of a tile, of which few candidates reach the worst of the best so far."""
    queries, k = key_qk.shape
    worst_q = _unpacked(key_qk[:, -1])[1]
    better_qc = (score_qc >= worst_q[:, None]) & (score_qc > -torch.inf)
    if int(torch.count_nonzero(better_qc)) > FEW * key_qk.numel() and k <= score_qc.shape[1]:
        better_qc &= score_qc >= score_qc.topk(k, dim=1).values[:, -1:]
    query_p, column_p = better_qc.nonzero(as_tuple=True)
    key_p = torch.cat([key_qk.flatten(), _packed(score_qc[query_p, column_p], id_c[column_p])])
    query_p = torch.cat([torch.arange(queries, device=query_p.device).repeat_interleave(k), query_p])
    order = key_p.argsort(descending=True)
    order = order[query_p[order].argsort(stable=True)]
    start_q = torch.searchsorted(query_p[order], torch.arange(queries, device=query_p.device))
    return key_p[order][start_q[:, None] + torch.arange(k, device=query_p.device)]


def _packed(score_p: Tensor, id_p: Tensor) -> Tensor:
    """Integers in the order of the scores and then of falling ids. Adding 0 makes one zero of both."""
    bits_p = (score_p + 0.0).view(torch.int32)
    rank_p = torch.where(bits_p < 0, bits_p ^ 0x7FFFFFFF, bits_p).to(torch.int64)
    return (rank_p << 32) | (LOW - id_p)


def _unpacked(key_p: Tensor) -> tuple[Tensor, Tensor]:
    """The ids and the scores; -1 and minus infinity for nothing."""
    nothing_p = key_p == NOTHING
    rank_p = (key_p >> 32).to(torch.int32)
    score_p = torch.where(rank_p < 0, rank_p ^ 0x7FFFFFFF, rank_p).view(torch.float32)
    id_p = LOW - (key_p & LOW)
    return id_p.masked_fill(nothing_p, NONE), score_p.masked_fill(nothing_p, -torch.inf)
