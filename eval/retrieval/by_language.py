"""Retrieval in several languages: a table for each, their mean, and how much the ranks differ between them.

The mean rank variance (1-to-K, Nie et al. 2024) is 1/(NK) Σ_j Σ_k (rank_jk − mean_k rank_jk)² over N groups and K
languages. With several queries of a group in a language, rank_jk is the mean of their ranks. Groups that lack one of
the languages do not count. The variance says whether a model treats languages alike, not whether it is good: a model
that ranks every right answer last has a variance of zero.

Shape letters: Q queries of all languages, N groups, K languages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from tercet.data_pipelines.captions.languages import by_language
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.ranking import chance
from tercet.eval.ranking.ranking import Ranking
from tercet.eval.statistics.intervals import MeanRank, RankVariance, Share, Statistic
from tercet.eval.task import NoValue, lookup

VARIANCE = "mean rank variance"
READER = CaptionReader({"json.own": 1.0})
LANGUAGE, PLACES = "language", ("text", "caption", "captions")  # where captions by language usually are


def by_kind(table: EmbeddingTable, by: str) -> dict[str, EmbeddingTable]:
    """A table for each kind of caption: its captions, and the pictures, sounds and so on of the same samples."""
    if "text" not in table.items:
        raise EvalError(f"`by: {by}` needs captions, and the data have only {', '.join(table.modalities)}")
    items, counts = torch.unique(table.items["text"], return_counts=True)
    kinds = list(
        chain.from_iterable(
            _kinds(table.samples[item], by, count) for item, count in zip(items.tolist(), counts.tolist(), strict=True)
        )
    )
    return {kind: _of_rows(table, torch.tensor([one == kind for one in kinds])) for kind in sorted(set(kinds))}


def _of_rows(table: EmbeddingTable, text_n: Tensor) -> EmbeddingTable:
    items = table.items["text"][text_n]
    kept = {name: text_n if name == "text" else torch.isin(own, items) for name, own in table.items.items()}
    vectors = {name: rows[kept[name]] for name, rows in table.vectors.items()}
    return replace(table, vectors=vectors, items={name: own[kept[name]] for name, own in table.items.items()})


def _kinds(sample: Sample, by: str, captions: int) -> list[str]:
    """The kind of each caption of a sample."""
    found = _found(sample, by, captions)
    if len(found) > captions:
        raise EvalError(
            f"`{by}` of sample `{sample.key}` is about {len(found)} captions, of which {captions} are embedded; set "
            f"eval.captions={len(found)} or more"
        )
    if len(found) != captions:
        given = f"gives {len(found)} of its {captions} captions a kind" if found else "is missing"
        raise EvalError(
            f"`{by}` of sample `{sample.key}` {given}; name its kind there, a list with a kind for each caption, or "
            "captions by kind, such as {en: …, de: …}"
        )
    return found


def _found(sample: Sample, by: str, captions: int) -> list[str]:
    try:
        value = lookup(sample.meta, by)
    except NoValue:
        places = PLACES if by == LANGUAGE else ()
        place = next((place for place in places if by_language(sample.meta.get(place))), None)
        return [] if place is None else _named(sample, place, sample.meta[place])
    if isinstance(value, list):
        return list(map(str, value))
    return _named(sample, by, value) if isinstance(value, Mapping) else [str(value)] * captions


def _named(sample: Sample, place: str, value: object) -> list[str]:
    """The key of each caption in a mapping from kinds to captions, which must be those of the sample."""
    assert isinstance(value, Mapping)
    given = [
        (str(kind), caption)
        for kind, one in value.items()
        if (read := READER.optional({}, {"own": one}))
        for caption, _ in read.in_order
    ]
    pairs = zip(sample.text, given, strict=False)
    if not all(text.endswith(caption) for text, (_, caption) in pairs):  # a prefix may come before it
        raise EvalError(
            f"the captions of sample `{sample.key}` are not those of `{place}`; set captions={{json.{place}: 1}} on "
            "the data source"
        )
    return [kind for kind, _ in given]


def over_kinds(subject: str, measures: Sequence[Measure], rankings: Sequence[Ranking]) -> Measure:
    """The mean over kinds, which all weigh alike, and the mean rank variance. A mean of medians is not a median."""
    items, groups = torch.cat([one.items for one in measures]), torch.cat([one.groups for one in measures])
    first = measures[0]
    statistics = {name: _mean([one.statistics[name] for one in measures]) for name in first.statistics}
    known: dict[str, Statistic] = {name: one for name, one in statistics.items() if one is not None}
    chances = {name: sum(one.chance[name] for one in measures) / len(measures) for name in known}
    worst = {name: sum(one.nulls.constant[name] for one in measures) / len(measures) for name in known}
    shuffled, random = dict(chances), dict[str, float | None](chances)
    kinds = torch.arange(len(rankings)).repeat_interleave(torch.tensor([len(one.rank) for one in rankings]))
    variance, last = (_variance(of_model, groups, kinds) for of_model in (rankings, [one.last() for one in rankings]))
    if variance is not None and last is not None:
        known[VARIANCE], chances[VARIANCE] = variance
        worst[VARIANCE] = last[0].value
        random[VARIANCE] = None  # the ranks in two languages depend on each other, through the same picture
    nulls = NullScores(worst, random, shuffled)
    return Measure(subject, known, items, groups, chances, {"kinds": len(measures)}, nulls=nulls)


def _mean(parts: Sequence[Statistic]) -> Statistic | None:
    values_Q = torch.cat([one.values_Q.double() for one in parts])
    sizes = torch.tensor([len(one.values_Q) for one in parts])
    weights_Q = (1 / sizes.double()).repeat_interleave(sizes)
    if isinstance(parts[0], Share):
        return Share(values_Q, weights_Q)
    if isinstance(parts[0], MeanRank):
        return MeanRank(values_Q, max(one.candidates for one in parts if isinstance(one, MeanRank)), weights_Q)
    return None


def _variance(rankings: Sequence[Ranking], groups: Tensor, kind_Q: Tensor) -> tuple[RankVariance, float] | None:
    """The mean rank variance and that of chance. None if no group has all kinds."""
    _, group_Q = torch.unique(groups, return_inverse=True)
    shape = int(group_Q.max()) + 1, len(rankings)
    cell_Q = group_Q * len(rankings) + kind_Q

    def mean_NK(values_Q: Tensor) -> Tensor:
        """The mean over the queries of a group in a language."""
        total = torch.zeros(shape[0] * shape[1], dtype=torch.float64).index_add_(0, cell_Q, values_Q.double())
        mean_NK: Tensor = (total / count).view(shape)
        return mean_NK

    count = cell_Q.bincount(minlength=shape[0] * shape[1])
    whole_N = (count.view(shape) > 0).all(dim=1)
    if not whole_N.any() or len(rankings) < 2:
        return None
    rank_NK = mean_NK(torch.cat([one.rank for one in rankings]))
    apart_NK = rank_NK - rank_NK.mean(dim=1, keepdim=True)
    weights_Q = torch.where(whole_N[group_Q], 1 / count[cell_Q].double(), 0.0)
    values_Q = torch.where(whole_N[group_Q], apart_NK.flatten()[cell_Q].square(), 0.0)
    positives_NK = mean_NK(torch.cat([one.positives for one in rankings]))[whole_N]
    candidates_NK = torch.tensor([one.candidates for one in rankings]).expand_as(positives_NK)
    return (
        RankVariance(values_Q, max(one.candidates for one in rankings), weights_Q),
        chance.rank_variance(positives_NK, candidates_NK),
    )
