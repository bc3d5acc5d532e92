"""Ranks the right answers among the candidates, by one rule for retrieval, zero-shot and the shortcut baselines.

A tie is wrong: a candidate that scores as high as a right one is ranked before it, so that constant embeddings have the
worst rank. Of right answers that tie, those of a lower grade come first.

The matrix of all scores is never stored. The code compares a tile of queries with a tile of candidates at a time, and
counts the wrong candidates that score higher than each right one. Ranks share the tiles of queries, and a tile is
computed alike wherever it is, so that the result does not depend on the number of processes. Tiles are computed on the
accelerator of a rank, if it has one (`products.py`).

Shape letters: Q queries, C candidates, D dimensions, T queries of a tile, W candidates of a tile, P right answers that
a query of a tile has at most, K right answers that are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.distributed import CPU, World
from tercet.eval.products import TILE, device_for, inner
from tercet.eval.ranking.rights import Pairs, Rights

# The last bits of a product depend on the place of a row in the matrix: equal vectors must tie all the same.
TIE = 1e-6
WIDTH, WIDE = 4096, 65536  # candidates of a tile: on a CPU, whose cache holds their scores, and on an accelerator
MANY = 64  # right answers, from which on a search in the sorted scores of these is faster than a pass for each
ALONE = World()


@dataclass(frozen=True)
class Ranking:
    """Per query: how many wrong candidates are ranked before each right one, best first, and how many are right.

    Where a query has fewer than K right answers, the rest of its row is the number of candidates. With grades,
    `gain_QK` holds those of the right answers in this order.
    """

    before_QK: Tensor
    positives: Tensor
    candidates: int
    gain_QK: Tensor | None = None

    @property
    def rank(self) -> Tensor:
        """The rank of the best right answer."""
        return self.before_QK[:, 0] + 1

    def reciprocal_rank(self) -> Tensor:
        return 1 / self.rank.double()

    def precision(self, k: int) -> Tensor:
        """The share of right answers among the first k."""
        return self._within(k).sum(dim=1).double() / k

    def r_precision(self) -> Tensor:
        """The share of right answers among the first R, where R are right."""
        return self._within(self.positives[:, None]).sum(dim=1).double() / self.positives

    def average_precision(self, depth: int | None = None, relevant: int | None = None) -> Tensor:
        """The mean precision at the ranks of right answers up to `depth`. The sum is divided by the number of right
        answers, or by `relevant`, and by `depth` at most."""
        most = depth or self.candidates
        precision_QK = self._within(most) * self._nth_K / self._rank_QK.double()
        counted = self.positives if relevant is None else torch.full_like(self.positives, relevant)
        return precision_QK.sum(dim=1) / counted.clamp(max=most)

    def ndcg(self, depth: int) -> Tensor:
        """The discounted gain of the first `depth`, relative to the best order. Without grades, every gain is 1."""
        gain_QK = self._exists_QK.double() if self.gain_QK is None else self.gain_QK
        found_Q = (self._within(depth) * gain_QK / torch.log2(self._rank_QK.double() + 1)).sum(dim=1)
        return found_Q / self.ideal(depth)

    def ideal(self, depth: int) -> Tensor:
        """The discounted gain of the best order."""
        if self.gain_QK is None:
            best_QK = (torch.arange(1, depth + 1) <= self.positives[:, None]).double()
        else:
            best_QK = self.gain_QK.sort(dim=1, descending=True).values[:, :depth]
        return (best_QK / torch.log2(torch.arange(best_QK.shape[1], dtype=torch.float64) + 2)).sum(dim=1)

    @property
    def gain(self) -> Tensor:
        """The sum of the grades of all right answers."""
        return self.positives.double() if self.gain_QK is None else self.gain_QK.sum(dim=1)

    @property
    def _nth_K(self) -> Tensor:
        return torch.arange(1, self.before_QK.shape[1] + 1)

    @property
    def _rank_QK(self) -> Tensor:
        return self.before_QK + self._nth_K

    @property
    def _exists_QK(self) -> Tensor:
        return self._nth_K <= self.positives[:, None]

    def last(self) -> "Ranking":
        """The same with all right answers behind the wrong ones, those of a low grade first."""
        behind_Q1 = (self.candidates - self.positives)[:, None]
        gain_QK = None
        if self.gain_QK is not None:
            gain_QK = self.gain_QK.masked_fill(~self._exists_QK, torch.inf).sort(dim=1).values.nan_to_num(posinf=0.0)
        return replace(self, before_QK=behind_Q1.where(self._exists_QK, self.candidates), gain_QK=gain_QK)

    def _within(self, depth: int | Tensor) -> Tensor:
        return (self._rank_QK <= depth) & self._exists_QK


def rank(
    queries_QD: Tensor,
    candidates_CD: Tensor,
    query_group: Tensor,
    candidate_group: Tensor,
    depth: int | None = 10,
    tile: int = TILE,
    width: int | None = None,
    world: World = ALONE,
) -> Ranking:
    """Ranks candidates by inner product. Those of the query's group are right; each query must have one.

    Keeps the `depth` best right answers of each query; None: all. A collective of `world`.
    """
    rights = Rights.of_groups(query_group, candidate_group)
    return rank_rights(queries_QD, candidates_CD, rights, depth, tile, width, world)


def rank_rights(
    queries_QD: Tensor,
    candidates_CD: Tensor,
    rights: Rights,
    depth: int | None = 10,
    tile: int = TILE,
    width: int | None = None,
    world: World = ALONE,
) -> Ranking:
    """The same for any right answers. Grades keep all of them, since the order among them counts."""
    most = int(rights.count_Q.max())
    kept = most if depth is None or rights.grade is not None else min(depth, most)
    device = device_for(queries_QD, candidates_CD, world)
    width = width or (WIDTH if device == CPU else WIDE)
    theirs_CD = candidates_CD.to(device)
    mine = []
    for first in world.share(range(0, len(queries_QD), tile)):
        pairs, grade_TP = rights.of_tile(first, first + tile)
        mine.append(_rank_tile(queries_QD[first : first + tile].to(device), theirs_CD, pairs, grade_TP, kept, width))
    found = [(before_TK.cpu(), gain_TK.cpu()) for before_TK, gain_TK in mine]  # not earlier: that would wait for each
    parts = [part for share in world.gather_objects(found) for part in share]
    before_QK = torch.cat([before for before, _ in parts])
    exists_QK = torch.arange(kept) < rights.count_Q[:, None]
    gain_QK = None if rights.grade is None else torch.cat([gain for _, gain in parts])
    return Ranking(before_QK.where(exists_QK, len(candidates_CD)), rights.count_Q, len(candidates_CD), gain_QK)


def _rank_tile(
    queries_TD: Tensor, candidates_CD: Tensor, pairs: Pairs, grade_TP: Tensor | None, kept: int, width: int
) -> tuple[Tensor, Tensor]:
    """How many wrong candidates come before the best right ones of each query, and the gains of these. The vectors are
    on the device; `pairs` and grades are not, because the places of right answers decide what is computed."""
    rows, most = len(queries_TD), max(kept, int(pairs.nth.max()) + 1 if len(pairs.nth) else 1)
    right_TP = queries_TD.new_full((rows, most), -torch.inf)
    for some, scores in _right_scores(queries_TD, candidates_CD, pairs, width):
        right_TP[some.row, some.nth] = scores
    gain_TK = torch.zeros(rows, 0)
    if grade_TP is not None:
        grade_TP = F.pad(grade_TP, (0, most - grade_TP.shape[1])).to(right_TP.device)
        gain_TK = grade_TP.gather(1, _lower_first(right_TP, grade_TP))
    best_TK = right_TP.topk(kept, dim=1).values
    before_TK = torch.zeros(best_TK.shape, dtype=torch.long, device=best_TK.device)
    for first in range(0, len(candidates_CD), width):
        scores_TW = inner(queries_TD, candidates_CD[first : first + width])
        some = pairs.within(first, first + width).to(scores_TW.device)
        scores_TW[some.row, some.column] = -torch.inf
        before_TK += _above(scores_TW, best_TK - TIE)
    return before_TK, gain_TK


def _right_scores(
    queries_TD: Tensor, candidates_CD: Tensor, pairs: Pairs, width: int
) -> Iterator[tuple[Pairs, Tensor]]:
    """Some of the pairs and their scores. Multiplies only candidates that are right for some query."""
    column_U, place = torch.unique_consecutive(pairs.column, return_inverse=True)
    for first in range(0, len(column_U), width):
        scores_TW = inner(queries_TD, candidates_CD[column_U[first : first + width].to(candidates_CD.device)])
        some = pairs._replace(column=place).within(first, first + width).to(scores_TW.device)
        yield some, scores_TW[some.row, some.column]


def _lower_first(right_TP: Tensor, grade_TP: Tensor) -> Tensor:
    """The order of the right answers: by score, and by grade from low to high among those that tie."""
    order_TP = right_TP.argsort(dim=1, descending=True)
    sorted_TP = right_TP.gather(1, order_TP)
    apart_TP = sorted_TP[:, :-1] - sorted_TP[:, 1:] > TIE
    tied_TP = F.pad(apart_TP.long(), (1, 0)).cumsum(dim=1)
    again_TP = grade_TP.gather(1, order_TP).argsort(dim=1, stable=True)
    order_TP, tied_TP = order_TP.gather(1, again_TP), tied_TP.gather(1, again_TP)
    return order_TP.gather(1, tied_TP.argsort(dim=1, stable=True))


def _above(scores_TW: Tensor, limit_TK: Tensor) -> Tensor:
    """How many scores of each row are at least as high as each limit; limits fall from left to right."""
    rows, kept = limit_TK.shape
    if kept <= MANY:
        above_TW = torch.empty_like(scores_TW, dtype=torch.float32)  # floats are summed faster than truth values
        counts = [torch.ge(scores_TW, limit[:, None], out=above_TW).sum(dim=1).long() for limit in limit_TK.T]
        return torch.stack(counts, dim=1)
    reached_TW = torch.searchsorted(limit_TK.flip(1).contiguous(), scores_TW, right=True)  # so many of the lowest
    one_TW = reached_TW.new_ones(1, 1).expand_as(reached_TW)
    count_TK = reached_TW.new_zeros(rows, kept + 1).scatter_add_(1, reached_TW, one_TW)
    return count_TK.flip(1).cumsum(dim=1)[:, :kept]
