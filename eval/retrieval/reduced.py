"""Reduced retrieval sets in the manner of MMTEB (Enevoldsen et al. 2025): fewer queries, and of the candidates those
that decide how they are ranked.

`queries` samples are chosen by a hash of their ids. The candidates are all samples of their groups, which are the right
answers, and for every query, in every direction, the samples of other groups that reference models rank first: the
union over the models. A model that is evaluated on the set competes with the hardest candidates of the whole set, so
its scores are close to those on the whole, where candidates at random would make them too high. Compare results on the
same set only. Use references of several kinds: a set that one model chose is harder for models like it.

MMTEB keeps 250 hard candidates of each query of 3 models, and up to 1,000 queries.

Shapes: Q queries, C candidates, D dimensions, k hard candidates.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from tercet.data_pipelines.seeding import keys
from tercet.errors import UserError
from tercet.eval.compare import same_items
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.products import nearest
from tercet.eval.ranking.rank_metrics import chances_of, nulls_of, statistics_of
from tercet.eval.ranking.ranking import rank
from tercet.eval.retrieval.ranked_task import RankedTask
from tercet.eval.retrieval.retrieval import directions, pair
from tercet.eval.task import KINDS
from tercet.whole_file import write_json


@dataclass(frozen=True)
class ReducedSet:
    """The keys of the samples that are queries, and of those that are candidates, which include the queries."""

    queries: tuple[str, ...]
    candidates: tuple[str, ...]

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "ReducedSet":
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(found["queries"]), tuple(found["candidates"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a reduced set; write one with `tercet data reduce`") from error


def reduced_set(references: Sequence[EmbeddingTable], queries: int, hard_negatives: int) -> ReducedSet:
    """Of the same samples, embedded by each reference model."""
    first = references[0]
    for other in references[1:]:
        same_items(first, other)
    order = keys("reduced queries", 0, 0, [sample.id for sample in first.samples]).argsort()
    asked = torch.as_tensor(order[:queries])
    kept = torch.isin(first.groups, first.groups[asked])
    for table in references:
        for query, key in directions(table.modalities):
            kept[_hardest(table, query, key, asked, hard_negatives)] = True
    named = [sample.key for sample in first.samples]
    if len(set(named)) < len(named):
        raise EvalError("several samples of the data have the same key, so that a reduced set cannot name them")
    return ReducedSet(
        tuple(named[item] for item in sorted(asked.tolist())),
        tuple(named[item] for item in kept.nonzero().flatten().tolist()),
    )


def _hardest(table: EmbeddingTable, query: str, key: str, asked: Tensor, count: int) -> Tensor:
    """The items of the wrong candidates that are nearest to each of the queries."""
    pairing = pair(table, query, key, None)
    rows = torch.isin(pairing.items[query], asked)
    groups = table.groups[pairing.items[query][rows]], table.groups[pairing.items[key]]
    queries_QD, candidates_CD = table.vectors[query][pairing.rows[query][rows]], table.vectors[key][pairing.rows[key]]
    wrong = nearest(queries_QD, candidates_CD, count, table.world, apart=groups)
    hardest: Tensor = torch.unique(pairing.items[key][wrong.candidate_Qk[wrong.product_Qk > -torch.inf]])
    return hardest


@KINDS.register("reduced_retrieval")
class ReducedRetrievalTask(RankedTask):
    """Retrieval of a set that `tercet data reduce` made smaller."""

    file: Path = Field(description="the reduced set, relative to the working directory")
    _whole: bool = PrivateAttr(True)

    def lighter(self) -> "ReducedRetrievalTask":
        """Of some of the data it takes those samples that are in the set."""
        found = self.model_copy()
        found._whole = False
        return found

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        found = ReducedSet.read(self.file)
        place = {sample.key: item for item, sample in enumerate(table.samples)}
        missing = [key for key in (*found.candidates, *found.queries) if key not in place]
        if missing and self._whole:
            raise EvalError(
                f"task `{self.name}`: sample `{missing[0]}` of {self.file} is not in the data, nor are {len(missing)} "
                "of its samples; evaluate on the data that were reduced"
            )
        queries, candidates = (
            torch.tensor([place[key] for key in named if key in place], dtype=torch.long)
            for named in (found.queries, found.candidates)
        )
        return list(self._directions(table, queries, candidates))

    def _directions(self, table: EmbeddingTable, queries: Tensor, candidates: Tensor) -> Iterator[Measure]:
        for query, key in directions(table.modalities):
            pairing = pair(table, query, key, None)
            asked, offered = torch.isin(pairing.items[query], queries), torch.isin(pairing.items[key], candidates)
            item_Q, item_C = pairing.items[query][asked], pairing.items[key][offered]
            if not len(item_Q):
                raise EvalError(f"no query of {self.file} has both {query} and {key}; reduce the data anew")
            ranking = rank(
                table.vectors[query][pairing.rows[query][asked]],
                table.vectors[key][pairing.rows[key][offered]],
                table.groups[item_Q],
                table.groups[item_C],
                depth=None,
                world=table.world,
            )
            yield Measure(
                f"{query}→{key}",
                statistics_of(ranking, self.metrics),
                item_Q,
                table.groups[item_Q],
                chances_of(ranking, self.metrics),
                {"candidates": ranking.candidates},
                nulls=nulls_of(ranking, self.metrics),
            )
