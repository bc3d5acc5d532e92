"""Geometry: how the vectors of held-out items lie in the space, apart from any answer being right.

For each modality:

- uniformity and effective rank, as `eval/space.py` defines them
- near-duplicates: the share of items that have a vector of another group at a cosine of `duplicate` or more. Such items
  leak from one split to another.

For each pair of modalities:

- alignment and the modality gap
- separability: how often a linear classifier, fitted to the other half of the groups, tells the modality of a vector.
  A half says that the modalities mix, and 1 that a plane divides them.

For each direction:

- R@1 as it is, and after the queries were shifted so that both modalities have the same mean, as CLOSE does (Gu et al.
  2023), with means of these items. Where the second is higher, the gap costs accuracy.
- hubness: the skewness of how often each candidate is among the k nearest of a query (Radovanović et al. 2010), and the
  share of queries that have the largest hub among theirs

Items count with their first vector, at most `items` of them, which depend on their ids alone. Intervals are jackknives
over groups. For hubness the groups are those of the queries, and the candidates are fixed. Most of these numbers depend
on the number of items, so compare them at the same number only: an interval holds what is expected of so many items,
and the effective rank of more items is higher.

Shapes: n items, d dimensions, Q queries, G groups.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.seeding import keys
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.products import nearest
from tercet.eval.ranking.ranking import TIE, rank
from tercet.eval.space import alignment, effective_rank, modality_gap, uniformity
from tercet.eval.statistics.intervals import Share, Statistic
from tercet.eval.statistics.jackknife import Jackknifed
from tercet.eval.statistics.least_squares import class_scores
from tercet.eval.task import KINDS, Task

RIDGE = 0.01  # of the classifier of modalities, relative to the mean square of a dimension


@KINDS.register("geometry")
class GeometryTask(Task):
    """How the vectors lie in the space."""

    items: int = Field(1000, gt=1, description="number of items to measure, at most")
    neighbours: int = Field(10, gt=0, description="k of the k nearest candidates that hubness counts")
    duplicate: float = Field(0.98, gt=-1, le=1, description="the cosine from which two items are near-duplicates")

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        pairs = list(combinations(table.modalities, 2))
        between = [self._of_pair(table, *pair) for pair in pairs]
        directed = [self._of_direction(table, *way) for pair in pairs for way in (pair, pair[::-1])]
        return [*between, *directed, *(self._of_modality(table, modality) for modality in table.modalities)]

    def _of_modality(self, table: EmbeddingTable, modality: str) -> Measure:
        items, (x_nd,) = self._vectors(table, modality)
        group_n = table.groups[items]
        other_n1 = nearest(x_nd, x_nd, 1, table.world, apart=(group_n, group_n)).product_Qk
        statistics: dict[str, Statistic] = {
            "uniformity": Jackknifed(x_nd, lambda x_nd: float(uniformity(x_nd)), most=0.0),
            "effective rank": Jackknifed(x_nd, lambda x_nd: float(effective_rank(x_nd)), least=1.0),
            "near-duplicates": Share(other_n1[:, 0] >= self.duplicate - TIE),
        }
        constant = {"uniformity": 0.0, "effective rank": 1.0, "near-duplicates": 1.0}
        return Measure(modality, statistics, items, group_n, {}, nulls=NullScores(constant))

    def _of_pair(self, table: EmbeddingTable, one: str, other: str) -> Measure:
        items, both = self._vectors(table, one, other)
        both_n2d, group_n = torch.stack(both, dim=1), table.groups[items]
        statistics: dict[str, Statistic] = {
            "alignment": Jackknifed(both_n2d, lambda z_n2d: float(alignment(*z_n2d.unbind(1))), 0.0, 4.0),
            "modality gap": Jackknifed(both_n2d, lambda z_n2d: float(modality_gap(*z_n2d.unbind(1))), 0.0, 2.0),
            "separability": Share(separated(both_n2d, group_n)),
        }
        nulls = NullScores(dict.fromkeys(statistics, 0.0), {"alignment": 2.0, "separability": 0.5})
        return Measure(f"{one}, {other}", statistics, items, group_n, {"separability": 0.5}, nulls=nulls)

    def _of_direction(self, table: EmbeddingTable, query: str, key: str) -> Measure:
        items, (query_nd, key_nd) = self._vectors(table, query, key)
        group_n, candidates = table.groups[items], len(items)
        moved_nd = shifted(query_nd, key_nd)
        nearest_Qk = nearest(query_nd, key_nd, self.neighbours, table.world).candidate_Qk
        statistics: dict[str, Statistic] = {
            "R@1": Share(rank(query_nd, key_nd, group_n, group_n, world=table.world).rank == 1),
            "R@1 shifted": Share(rank(moved_nd, key_nd, group_n, group_n, world=table.world).rank == 1),
            "hubness": Jackknifed(nearest_Qk, lambda nearest_Qk: hubness(nearest_Qk, candidates)),
            "largest hub": Jackknifed(nearest_Qk, lambda nearest_Qk: largest_hub(nearest_Qk), 0.0, 1.0),
        }
        _, place_n, count_G = torch.unique(group_n, return_inverse=True, return_counts=True)
        chance = dict.fromkeys(("R@1", "R@1 shifted"), float(count_G[place_n].double().mean()) / candidates)
        nulls = NullScores(dict.fromkeys(chance, 0.0), {**chance}, chance)
        return Measure(f"{query}→{key}", statistics, items, group_n, chance, {"candidates": candidates}, nulls=nulls)

    def _vectors(self, table: EmbeddingTable, *modalities: str) -> tuple[Tensor, list[Tensor]]:
        """The items that have all of these modalities, and the first vector of each in double precision."""
        first = [table.first_rows(modality) for modality in modalities]
        shared = sorted(set.intersection(*map(set, first)))
        if len({table.samples[item].group for item in shared}) < 2:
            raise EvalError(
                f"task `{self.name}` needs two groups of samples or more that have {' and '.join(modalities)}; add "
                "samples, or leave the task out"
            )
        items = self._chosen(table, shared)
        rows = [torch.tensor([places[item] for item in items]) for places in first]
        vectors = [table.vectors[name][row_n].double() for name, row_n in zip(modalities, rows, strict=True)]
        return torch.tensor(items), vectors

    def _chosen(self, table: EmbeddingTable, items: Sequence[int]) -> list[int]:
        ids = [table.samples[item].id for item in items]
        order = keys("geometry", 0, 0, ids).argsort()[: self.items]
        return sorted((items[place] for place in order.tolist()), key=lambda item: table.samples[item].id)


def separated(both_n2d: Tensor, group_n: Tensor) -> Tensor:
    """For each item, the share of its two vectors whose modality the classifier of the other groups finds."""
    half_n = torch.unique(group_n, return_inverse=True)[1] % 2
    hits_n = torch.zeros(len(both_n2d), dtype=torch.float64)
    for half in (0, 1):
        known_n2d, new_n2d = both_n2d[half_n != half], both_n2d[half_n == half]
        label_n, ridge = torch.arange(2).repeat(len(known_n2d)), RIDGE * 2 * len(known_n2d) / both_n2d.shape[2]
        scores_n2 = class_scores(known_n2d.flatten(0, 1), label_n, new_n2d.flatten(0, 1), ridge)
        ahead_n2 = (scores_n2[:, 0] - scores_n2[:, 1]).view(-1, 2)
        hits_n[half_n == half] = ((ahead_n2 * torch.tensor([1.0, -1.0])) > TIE).double().mean(dim=1)
    return hits_n


def shifted(x_nd: Tensor, y_nd: Tensor) -> Tensor:
    """The vectors x, moved by the difference of the means, and then normalised."""
    return normalize(x_nd - x_nd.mean(dim=0) + y_nd.mean(dim=0), dim=1)


def hubness(nearest_Qk: Tensor, candidates: int) -> float:
    """The skewness of the number of queries that have a candidate among their nearest; 0 if all have it equally."""
    count_n = nearest_Qk.flatten().bincount(minlength=candidates).double()
    apart_n = count_n - count_n.mean()
    deviation = apart_n.square().mean().sqrt()
    return float(apart_n.pow(3).mean() / deviation**3) if deviation > 0 else 0.0


def largest_hub(nearest_Qk: Tensor) -> float:
    return int(nearest_Qk.flatten().bincount().max()) / len(nearest_Qk)
