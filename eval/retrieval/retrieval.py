"""Retrieval between every two modalities, in both directions.

Items of one group describe the same thing, so each of them is a right answer. An item with several captions is found
when one of its captions is, and each caption is a query. With `candidates`, each item has one row: its first caption.

Those are the rules of CLIP_benchmark. LAION-CLAP's protocol for sounds (Wu et al. 2023) is the same: each of the five
captions of a clip is a query, and a clip is found at the best rank of its captions among those of all clips. Its mAP@10
of clips that look for captions divides by five. The ranks of the five captions are sorted, as it is described there and
as Mei et al. (2022) do; the code of LAION-CLAP does not sort them, so that its mAP@10 is higher.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from tercet.errors import did_you_mean
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.ranking.rank_metrics import chances_of, depth_of, nulls_of, statistics_of
from tercet.eval.ranking.ranking import Ranking, rank_rights
from tercet.eval.ranking.relevance import graded
from tercet.eval.ranking.rights import Rights
from tercet.eval.retrieval.by_language import by_kind, over_kinds
from tercet.eval.retrieval.ranked_task import RankedTask
from tercet.eval.retrieval.truncation import truncated
from tercet.eval.task import KINDS
from tercet.modality import MODALITIES


def _known(modality: str) -> str:
    if modality not in MODALITIES:
        raise ValueError(f"`{modality}` is not a modality; {did_you_mean(modality, MODALITIES)}")
    return modality


def _apart(direction: tuple[str, str]) -> tuple[str, str]:
    if direction[0] == direction[1]:
        raise ValueError(f"{direction[0]} would find itself; name two modalities, such as [image, text]")
    return direction


Modality = Annotated[str, AfterValidator(_known)]
Direction = Annotated[tuple[Modality, Modality], AfterValidator(_apart)]


@KINDS.register("retrieval")
class RetrievalTask(RankedTask):
    """Retrieval between every two modalities."""

    directions: tuple[Direction, ...] = Field(
        (), description="queries and candidates, such as [[text, image], [image, text]]; empty: every direction"
    )
    right: Literal["group", "item"] = Field(
        "group",
        description="right answers: all samples of the query's group, or only its own sample, as in CLIP_benchmark",
    )
    relevance: str | None = Field(
        None,
        description="where in `meta` a sample has the grades of others by their keys, such as {a12: 2, b7: 0.5}; those "
        "above 0 are right, and nDCG uses them; the sample's own group has 1 where it is not named",
    )
    captions: int | None = Field(
        None, gt=0, description="mAP of queries that look for captions divides by this number: 5 for LAION's protocol"
    )
    by: str | None = Field(
        None,
        description="results for each kind of caption and their mean: `language`, or where in `meta` the kind is",
    )
    count_truncated: bool = Field(
        False, description="count the captions that are longer than the context of the text tower"
    )

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        notes = {"truncated captions": truncated(table, embed_text)} if self.count_truncated else {}
        known = {name: count for name, count in notes.items() if count is not None}
        return retrieval(table, self, config.candidates, known)


@dataclass(frozen=True)
class Pairing:
    """The rows of two modalities that are ranked against each other, and the item of each row."""

    rows: dict[str, Tensor]
    items: dict[str, Tensor]


def directions(modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    """All ordered pairs of modalities: six for three modalities."""
    return list(permutations(modalities, 2))


def retrieval(
    table: EmbeddingTable, task: RetrievalTask, candidates: int | None = None, notes: dict[str, int] | None = None
) -> list[Measure]:
    """Measures the directions of a task. `candidates`: use this many items, the first of each identity."""
    if len(table.modalities) < 2:
        raise EvalError(
            f"retrieval needs two modalities, and the data have only {', '.join(table.modalities) or 'none'}"
        )
    for modality in {one for direction in task.directions for one in direction} - {*table.modalities}:
        raise EvalError(
            f"task `{task.name}` needs {modality}, and the embedded data have {', '.join(table.modalities)}; evaluate "
            "on other data, or change `directions`"
        )
    measures = []
    for query, key in task.directions or directions(table.modalities):
        name = f"{query}→{key}"
        if task.by and "text" in (query, key):
            tables = by_kind(table, task.by)
            found = [_search(one, query, key, task, candidates) for one in tables.values()]
            of_kinds = [one.measure(f"{name}, {kind}", task, notes) for kind, one in zip(tables, found, strict=True)]
            measures += [*of_kinds, over_kinds(f"{name}, mean", of_kinds, [one.ranking for one in found])]
        else:
            measures.append(_search(table, query, key, task, candidates).measure(name, task, notes))
    return measures


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


@dataclass(frozen=True)
class Search:
    """The ranking of one direction, with the item and the group of each query. `relevant`: what mAP divides by."""

    ranking: Ranking
    items: Tensor
    groups: Tensor
    relevant: int | None

    def measure(self, subject: str, task: RetrievalTask, notes: dict[str, int] | None) -> Measure:
        return Measure(
            subject,
            statistics_of(self.ranking, task.metrics, self.relevant),
            self.items,
            self.groups,
            chances_of(self.ranking, task.metrics, self.relevant),
            {"candidates": self.ranking.candidates, **(notes or {})},
            nulls=nulls_of(self.ranking, task.metrics, self.relevant),
        )


def _search(table: EmbeddingTable, query: str, key: str, task: RetrievalTask, candidates: int | None) -> Search:
    pairing = pair(table, query, key, candidates)
    item_Q, item_C = pairing.items[query], pairing.items[key]
    alone = torch.arange(len(table.samples))
    right = alone if task.right == "item" or candidates is not None else table.groups
    rights = Rights.of_groups(right[item_Q], right[item_C])
    if task.relevance:
        rights = graded(table, task.relevance, right, item_Q, item_C)
    relevant = task.captions if key == "text" else None
    if relevant is not None and int(rights.count_Q.max()) > relevant:
        raise EvalError(
            f"task `{task.name}` has `captions: {relevant}`, and an item has {int(rights.count_Q.max())}; raise it"
        )
    ranking = rank_rights(
        table.vectors[query][pairing.rows[query]],
        table.vectors[key][pairing.rows[key]],
        rights,
        depth_of(task.metrics),
        world=table.world,
    )
    groups = table.groups if candidates is None else alone
    return Search(ranking, item_Q, groups[item_Q], relevant)
