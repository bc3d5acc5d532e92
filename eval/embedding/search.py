"""Exact nearest-neighbour search: compares a query with every vector of a store, one piece at a time.

Memory holds the vectors of one piece and the best matches so far. Of equal matches the earlier sample comes first. It
runs on the CPU: a query reads every vector once, as the copy to an accelerator would.

Shape letters: n rows of a piece, D dimensions.
"""

from collections.abc import Iterator
from heapq import nsmallest
from typing import NamedTuple

from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError, did_you_mean
from tercet.eval.embedding.store import Store


class Match(NamedTuple):
    """A sample and its cosine similarity to the query."""

    score: float
    sample: Sample


class _Row(NamedTuple):
    """A candidate. Rows sort like matches, because pieces, and the samples within them, are ordered by id."""

    distance: float
    piece: int
    item: int


def search(store: Store, query_D: Tensor, k: int, among: str) -> list[Match]:
    """The k samples whose vectors of a modality have the largest inner products with a unit vector."""
    if among not in store.modalities:
        raise UserError(f"the data hold no {among} to search; {did_you_mean(among, store.modalities)}")
    best: list[_Row] = []
    for piece, (rows_nD, item_n) in enumerate(store.vectors(among)):
        best = nsmallest(k, [*best, *_top(piece, rows_nD @ query_D, item_n, k)])
    samples = {piece: store.samples(piece) for piece in {row.piece for row in best}}
    return [Match(-row.distance, samples[row.piece][row.item]) for row in best]


def _top(piece: int, scores_n: Tensor, item_n: Tensor, k: int) -> Iterator[_Row]:
    for row in scores_n.argsort(descending=True, stable=True)[:k].tolist():
        yield _Row(-float(scores_n[row]), piece, int(item_n[row]))
