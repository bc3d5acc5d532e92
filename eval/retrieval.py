"""Retrieval between every two modalities, in both directions.

Items of one group describe the same thing, so each of them is a right answer. An item with several captions is found
when one of its captions is, and each caption is a query. With `candidates`, each item has one row: its first caption.
"""

from dataclasses import dataclass
from itertools import permutations

import torch
from pydantic import Field
from torch import Tensor

from tercet.eval import chance
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.intervals import MeanRank, MedianRank, Share, Statistic
from tercet.eval.measure import Measure
from tercet.eval.ranking import Ranking, rank
from tercet.eval.task import KINDS, Task

DEPTH = 10  # of the mean average precision


@KINDS.register("retrieval")
class RetrievalTask(Task):
    """Retrieval between every two modalities."""

    recall_at: tuple[int, ...] = Field((1, 5, 10), description="R@k for these k")

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*(f"R@{k}" for k in self.recall_at), "median rank", "mean rank", "mAP@10")

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return retrieval(table, self, config.candidates)


@dataclass(frozen=True)
class Pairing:
    """The rows of two modalities that are ranked against each other, and the item of each row."""

    rows: dict[str, Tensor]
    items: dict[str, Tensor]


def directions(modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    """All ordered pairs of modalities: six for three modalities."""
    return list(permutations(modalities, 2))


def retrieval(table: EmbeddingTable, task: RetrievalTask, candidates: int | None = None) -> list[Measure]:
    """Measures all directions. `candidates`: use this many items, the first of each identity."""
    if len(table.modalities) < 2:
        raise EvalError(
            f"retrieval needs two modalities, and the data have only {', '.join(table.modalities) or 'none'}"
        )
    return [_direction(table, query, key, task, candidates) for query, key in directions(table.modalities)]


def pair(table: EmbeddingTable, first: str, second: str, candidates: int | None) -> Pairing:
    """The rows of the items that have both modalities: all of them, or one of each of the first unique items."""
    shared = shared_items(table, first, second)
    if candidates is not None:
        return one_row_each(table, (first, second), _unique(table, shared)[:candidates])
    kept = {side: torch.isin(table.items[side], torch.tensor(shared)).nonzero().flatten() for side in (first, second)}
    return Pairing(kept, {side: table.items[side][rows] for side, rows in kept.items()})


def shared_items(table: EmbeddingTable, first: str, second: str) -> list[int]:
    """The items that have both modalities, in order."""
    shared = set(table.items[first].tolist()) & set(table.items[second].tolist())
    if not shared:
        raise EvalError(f"no item of the data has both {first} and {second}")
    return sorted(shared)


def one_row_each(table: EmbeddingTable, modalities: tuple[str, str], items: list[int]) -> Pairing:
    """The first row of each of these items."""
    at = {modality: table.first_rows(modality) for modality in modalities}
    rows = {modality: torch.tensor([at[modality][item] for item in items]) for modality in modalities}
    return Pairing(rows, dict.fromkeys(modalities, torch.tensor(items)))


def _unique(table: EmbeddingTable, items: list[int]) -> list[int]:
    """The first item of each identity, in order."""
    first: dict[object, int] = {}
    for item in items:
        sample = table.samples[item]
        first.setdefault(repr(sample.meta.get("identity", sample.group)), item)
    return list(first.values())


def _direction(table: EmbeddingTable, query: str, key: str, task: RetrievalTask, candidates: int | None) -> Measure:
    pairing = pair(table, query, key, candidates)
    groups = table.groups if candidates is None else torch.arange(len(table.samples))
    ranking = rank(
        table.vectors[query][pairing.rows[query]],
        table.vectors[key][pairing.rows[key]],
        groups[pairing.items[query]],
        groups[pairing.items[key]],
        depth=DEPTH,
    )
    return Measure(
        f"{query}→{key}",
        statistics_of(ranking, task.recall_at),
        pairing.items[query],
        groups[pairing.items[query]],
        chances_of(ranking, task.recall_at),
        {"candidates": ranking.candidates},
    )


def statistics_of(ranking: Ranking, recall_at: tuple[int, ...]) -> dict[str, Statistic]:
    return {
        **{f"R@{k}": Share(ranking.rank <= k) for k in recall_at},
        "median rank": MedianRank(ranking.rank, ranking.candidates),
        "mean rank": MeanRank(ranking.rank, ranking.candidates),
        f"mAP@{DEPTH}": Share(ranking.average_precision),
    }


def chances_of(ranking: Ranking, recall_at: tuple[int, ...]) -> dict[str, float]:
    curve = chance.hit_curve(ranking.positives, ranking.candidates)
    recalls = {f"R@{k}": float(curve[min(k, ranking.candidates) - 1]) for k in recall_at}
    return {
        **recalls,
        "median rank": chance.median_rank(ranking.positives, ranking.candidates),
        "mean rank": chance.mean_rank(ranking.positives, ranking.candidates),
        f"mAP@{DEPTH}": chance.average_precision(ranking.positives, ranking.candidates, DEPTH),
    }
