"""The metrics of a ranking by name: the statistic of each, and its score of chance.

| name | of a query |
|---|---|
| `R@5` | whether a right answer is among the first 5: the hit rate, which papers on retrieval call recall |
| `P@5` | the share of right answers among the first 5 |
| `R-precision` | the share of right answers among the first R, where R are right |
| `mAP@10`, `mAP` | the mean precision at the ranks of the right answers up to 10, or at all of them |
| `MRR` | one over the rank of the first right answer |
| `nDCG@10` | the gain of the first 10, discounted by rank, relative to the best order (Järvelin and Kekäläinen 2002) |
| `median rank`, `mean rank` | the rank of the first right answer |
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from tercet.errors import did_you_mean
from tercet.eval.null_scores import NullScores
from tercet.eval.ranking import chance
from tercet.eval.ranking.ranking import Ranking
from tercet.eval.statistics.intervals import MeanRank, MedianRank, Share, Statistic


@dataclass(frozen=True)
class RankMetric:
    """`depth`: how many right answers of a query it needs; None: all. `relevant` is the number of right answers that
    `mAP` divides by, if it is not that of the data. `mean`: it is a mean over queries, so that the mean over draws of
    random vectors is the score of chance."""

    depth: int | None
    statistic: Callable[[Ranking, int | None], Statistic]
    chance: Callable[[Ranking, int | None], float]
    mean: bool = True


def _recall(k: int) -> RankMetric:
    return RankMetric(
        1,
        lambda ranking, _: Share(ranking.rank <= k),
        lambda ranking, _: chance.hit(ranking.positives, ranking.candidates, k),
    )


def _precision(k: int) -> RankMetric:
    return RankMetric(
        k,
        lambda ranking, _: Share(ranking.precision(k)),
        lambda ranking, _: chance.precision(ranking.positives, ranking.candidates, k),
    )


def _average_precision(k: int | None) -> RankMetric:
    return RankMetric(
        k,
        lambda ranking, relevant: Share(ranking.average_precision(k, relevant)),
        lambda ranking, relevant: chance.average_precision(
            ranking.positives, ranking.candidates, k or ranking.candidates, relevant
        ),
    )


def _ndcg(k: int) -> RankMetric:
    return RankMetric(
        k,
        lambda ranking, _: Share(ranking.ndcg(k)),
        lambda ranking, _: chance.ndcg(ranking.gain, ranking.ideal(k), ranking.candidates, k),
    )


AT = {"R": _recall, "P": _precision, "mAP": _average_precision, "nDCG": _ndcg}  # at a depth, as R@5
WHOLE = {
    "R-precision": RankMetric(
        None,
        lambda ranking, _: Share(ranking.r_precision()),
        lambda ranking, _: chance.r_precision(ranking.positives, ranking.candidates),
    ),
    "mAP": _average_precision(None),
    "MRR": RankMetric(
        1,
        lambda ranking, _: Share(ranking.reciprocal_rank()),
        lambda ranking, _: chance.reciprocal_rank(ranking.positives, ranking.candidates),
    ),
    "median rank": RankMetric(
        1,
        lambda ranking, _: MedianRank(ranking.rank, ranking.candidates),
        lambda ranking, _: chance.median_rank(ranking.positives, ranking.candidates),
        mean=False,
    ),
    "mean rank": RankMetric(
        1,
        lambda ranking, _: MeanRank(ranking.rank, ranking.candidates),
        lambda ranking, _: chance.mean_rank(ranking.positives, ranking.candidates),
    ),
}


def rank_metric(name: str) -> RankMetric:
    """Raises ValueError for an unknown metric."""
    found = re.fullmatch(rf"({'|'.join(AT)})@([1-9]\d*)", name)
    if found:
        return AT[found[1]](int(found[2]))
    if name not in WHOLE:
        known = [*WHOLE, *(f"{one}@10" for one in AT)]
        raise ValueError(f"`{name}` is not a metric of retrieval; {did_you_mean(name, known)}")
    return WHOLE[name]


def _known(name: str) -> str:
    rank_metric(name)
    return name


MetricName = Annotated[str, AfterValidator(_known)]


def depth_of(names: Iterable[str]) -> int | None:
    """How many right answers of a query these metrics need; None: all."""
    depths = [rank_metric(name).depth for name in names]
    return None if None in depths else max(filter(None, depths), default=1)


def statistics_of(ranking: Ranking, names: Iterable[str], relevant: int | None = None) -> dict[str, Statistic]:
    return {name: rank_metric(name).statistic(ranking, relevant) for name in names}


def chances_of(ranking: Ranking, names: Iterable[str], relevant: int | None = None) -> dict[str, float]:
    return {name: rank_metric(name).chance(ranking, relevant) for name in names}


def nulls_of(ranking: Ranking, names: Iterable[str], relevant: int | None = None) -> NullScores:
    """Of vectors that say nothing, every order of the candidates is as likely, but for ties, which are wrong."""
    names = tuple(names)
    worst, chances = statistics_of(ranking.last(), names, relevant), chances_of(ranking, names, relevant)
    known = {name: score for name, score in chances.items() if rank_metric(name).mean}
    return NullScores({name: one.value for name, one in worst.items()}, {**dict.fromkeys(names), **known}, known)
