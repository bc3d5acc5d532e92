"""Ranks the right answer among the candidates, by one rule for retrieval, zero-shot and the shortcut baselines.

A tie is wrong: a candidate that scores as high as the right one is ranked before it, so that constant embeddings have
the worst rank. Scores are computed for one tile of queries at a time.

Shape letters: Q queries, C candidates, D dimensions, K depth of the average precision.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# The last bits of a product depend on the place of a row in the matrix: equal vectors must tie all the same.
TIE = 1e-6


@dataclass(frozen=True)
class Ranking:
    """Per query: the rank of its best right candidate, its average precision, and how many candidates are right."""

    rank: Tensor
    average_precision: Tensor
    positives: Tensor
    candidates: int


def rank(
    queries_QD: Tensor,
    candidates_CD: Tensor,
    query_group: Tensor,
    candidate_group: Tensor,
    depth: int = 10,
    tile: int = 256,
) -> Ranking:
    """Ranks candidates by inner product. Those of the query's group are right; each query must have one."""
    parts = []
    for queries, groups in zip(torch.split(queries_QD, tile), torch.split(query_group, tile), strict=True):
        right_QC = groups[:, None] == candidate_group[None, :]
        parts.append(_rank_tile(queries @ candidates_CD.T, right_QC, depth))
    ranks, precisions, positives = (torch.cat(column) for column in zip(*parts, strict=True))
    return Ranking(ranks, precisions, positives, len(candidates_CD))


def _rank_tile(scores_QC: Tensor, right_QC: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    positives = right_QC.sum(dim=1)
    wrong_QC = scores_QC.masked_fill(right_QC, -torch.inf)
    best_QK = scores_QC.masked_fill(~right_QC, -torch.inf).topk(min(depth, int(positives.max())), dim=1).values
    before_QK = torch.stack([(wrong_QC >= best[:, None] - TIE).sum(dim=1) for best in best_QK.T], dim=1)
    return before_QK[:, 0] + 1, _average_precision(before_QK, positives, depth), positives


def _average_precision(before_QK: Tensor, positives: Tensor, depth: int) -> Tensor:
    """AP@depth from the number of wrong candidates before each right one. The first `depth` right ones count."""
    nth_K = torch.arange(1, before_QK.shape[1] + 1)
    rank_QK = before_QK + nth_K
    found_QK = (rank_QK <= depth) & (nth_K <= positives[:, None])
    return (found_QK * nth_K / rank_QK).sum(dim=1) / positives.clamp(max=depth)
