"""Retrieval of documents by queries, each a weighted sum of several vectors of a sample (GCL, Zhu et al. 2024).

A query may be a text, a document a picture and its title. A sum has length 1; a part that a sample lacks is left out.
Samples of one group describe the same thing, so each of their documents is a right answer.

Shape letters: n samples, d dimensions.
"""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.errors import UserError, did_you_mean
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder, embed_prompts
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.ranking.rank_metrics import chances_of, depth_of, nulls_of, statistics_of
from tercet.eval.ranking.ranking import Ranking, rank
from tercet.eval.retrieval.ranked_task import RankedTask
from tercet.eval.task import KINDS
from tercet.modality import MODALITIES


def _weighed(parts: dict[str, float]) -> dict[str, float]:
    """Refuses names other than those of parts of a sample, and weights that are not positive."""
    for part, weight in parts.items():
        if part not in MODALITIES and not part.startswith("json."):
            raise ValueError(f"`{part}` is neither a modality nor json.KEY; {did_you_mean(part, MODALITIES)}")
        if weight <= 0:
            raise ValueError(f"the weight of `{part}` is {weight:g}; give a number above 0")
    try:
        CaptionReader({part: 1.0 for part in parts if part not in MODALITIES})
    except UserError as error:
        raise ValueError(str(error)) from None
    return parts


Parts = Annotated[dict[str, float], AfterValidator(_weighed), Field(min_length=1)]


@KINDS.register("combined_retrieval")
class CombinedRetrievalTask(RankedTask):
    """Retrieval of documents by queries, each a weighted sum of parts of a sample."""

    query: Parts = Field(
        description="parts of a query, with their weights: modalities, and texts of `.json`, such as {json.query: 1}"
    )
    document: Parts = Field(description="parts of a document, such as {image: 0.9, json.title: 0.1}")

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        query, document = (summed(table, embed_text, parts) for parts in (self.query, self.document))
        items = (query.there_n & document.there_n).nonzero().flatten()[: config.candidates]
        if not len(items):
            raise EvalError(f"no sample of the data has a part of both `query` and `document` of task `{self.name}`")
        groups, depth = table.groups[items], depth_of(self.metrics)
        ranking = rank(query.vectors_nd[items], document.vectors_nd[items], groups, groups, depth, world=table.world)
        return [
            Measure(
                "query→document",
                statistics_of(ranking, self.metrics),
                items,
                groups,
                chances_of(ranking, self.metrics),
                {"candidates": ranking.candidates},
                nulls=self._nulls(table, ranking),
            )
        ]

    def _nulls(self, table: EmbeddingTable, ranking: Ranking) -> NullScores:
        """Random vectors score chance at most, since documents may have the same text."""
        found = nulls_of(ranking, self.metrics)
        if given_away(table, self.query, self.document):
            return NullScores(found.constant, dict.fromkeys(self.metrics))
        unknown = [name for name in self.metrics if name not in found.shuffled]
        return NullScores(found.constant, dict.fromkeys(unknown), found.shuffled)


def given_away(table: EmbeddingTable, first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Whether a part is in both sums, or a text of a group is in both or twice in the second: then such parts are alike
    whatever the vectors."""
    if first.keys() & second.keys():
        return True
    seen: set[tuple[int, str]] = set()
    others: list[tuple[int, str]] = []
    for parts, found in ((first, seen.add), (second, others.append)):
        for place in parts.keys() - MODALITIES:
            for item, text in _texts(table, place).items():
                found((table.samples[item].group, text))
    return len(set(others)) < len(others) or not seen.isdisjoint(others)


class Sums(NamedTuple):
    """The sum of each sample, and whether the sample has any of the parts."""

    vectors_nd: Tensor
    there_n: Tensor


def summed(table: EmbeddingTable, embed_text: TextEmbedder, parts: Mapping[str, float]) -> Sums:
    width = next(iter(table.vectors.values())).shape[1]
    total_nd, there_n = torch.zeros(len(table.samples), width), torch.zeros(len(table.samples), dtype=torch.bool)
    for part, weight in parts.items():
        items, vectors = _of_modality(table, part) if part in MODALITIES else _of_texts(table, embed_text, part)
        if items:
            total_nd[torch.tensor(items)] += weight * vectors
            there_n[torch.tensor(items)] = True
    return Sums(normalize(total_nd, dim=1), there_n)


def _of_modality(table: EmbeddingTable, modality: str) -> tuple[list[int], Tensor]:
    """The first vector of each sample that has one."""
    if modality not in table.vectors:
        return [], torch.zeros(0)
    first = table.first_rows(modality)
    items = sorted(first)
    return items, table.vectors[modality][torch.tensor([first[item] for item in items])].float()


def _of_texts(table: EmbeddingTable, embed_text: TextEmbedder, place: str) -> tuple[list[int], Tensor]:
    """The vector of the first text at a place of `.json`."""
    texts = _texts(table, place)
    return [*texts], embed_prompts(embed_text, [*texts.values()]) if texts else torch.zeros(0)


def _texts(table: EmbeddingTable, place: str) -> dict[int, str]:
    """The first text at a place of `.json`, by item."""
    reader = CaptionReader({place: 1.0})
    found = {item: reader.optional({}, sample.meta) for item, sample in enumerate(table.samples)}
    return {item: captions.in_order[0][0] for item, captions in found.items() if captions and captions.in_order}
