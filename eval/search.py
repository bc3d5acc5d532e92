"""The nearest samples to a query: exact, by comparing it with every vector of a store, one piece at a time.

What is held at once is a piece and the best so far, however large the store. Among equals the earlier sample is first.

Shape letters: n rows of a piece, D dimensions.
"""

from collections.abc import Iterator
from heapq import nsmallest
from typing import NamedTuple

from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError, did_you_mean
from tercet.eval.embed import EmbeddingTable
from tercet.eval.store import Store


class Match(NamedTuple):
    """A sample and its cosine to the query."""

    score: float
    sample: Sample


def search(store: Store, query_D: Tensor, k: int, among: str) -> list[Match]:
    """The k samples whose vectors of one modality have the largest inner products with a unit vector."""
    if among not in store.modalities:
        raise UserError(f"the data hold no {among} to search among; {did_you_mean(among, store.modalities)}")
    best: list[Match] = []
    for piece in store.pieces():
        if among in piece.table.vectors:
            best = nsmallest(k, [*best, *_top(piece.table, query_D, k, among)], key=_place)
    return best


def _top(table: EmbeddingTable, query_D: Tensor, k: int, among: str) -> Iterator[Match]:
    scores_n = table.vectors[among] @ query_D
    for row in scores_n.argsort(descending=True, stable=True)[:k].tolist():
        yield Match(float(scores_n[row]), table.samples[int(table.items[among][row])])


def _place(match: Match) -> tuple[float, int]:
    return -match.score, match.sample.id
