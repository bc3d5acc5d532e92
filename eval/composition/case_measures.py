"""What the cases of one subject come to: each score with the score of chance, and beside the first what text alone
reaches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from tercet.eval.composition.blind import NAME, Judgement, right_beats_wrong
from tercet.eval.composition.comparisons import Case, Reference
from tercet.eval.composition.right_and_wrong import caption_rows
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.statistics.intervals import Share, class_mean

Blind = Callable[[], Tensor | None]  # for each case, whether text alone finds the right caption


def measured(
    table: EmbeddingTable,
    subject: str,
    items: Sequence[int],
    holds: Mapping[str, Tensor],
    chances: Mapping[str, Tensor],
    blind: Blind,
    kinds: Tensor | None = None,
    notes: Mapping[str, object] | None = None,
) -> Measure:
    """The scores of one subject: of all cases alike or, with `kinds`, as the mean over these.

    `items`, `holds` and `chances` have an entry for each case: its item, whether it holds and how often chance does.
    """

    def share(values: Tensor) -> Share:
        return Share(values) if kinds is None else class_mean(values, kinds)

    def alone() -> dict[str, float]:
        beaten = blind()
        return {} if beaten is None else {NAME: share(beaten).value}

    of_case, chance = torch.tensor(items), {score: share(each).value for score, each in chances.items()}
    return Measure(
        subject,
        {score: share(hits) for score, hits in holds.items()},
        of_case,
        table.groups[of_case],
        chance,
        notes or {},
        alone,
        nulls=NullScores(dict.fromkeys(holds, 0.0), {**chance}),
    )


def some(blind: Blind, chosen: Tensor) -> Blind:
    """The same for some of the cases."""

    def beaten() -> Tensor | None:
        found = blind()
        return None if found is None else found[chosen]

    return beaten


def text_alone(table: EmbeddingTable, cases: Sequence[Case]) -> Blind:
    """Whether text alone finds the right captions of each case. It finds no pair: both items get the same answer."""
    if any(len(case.anchors) > 1 for case in cases):
        return lambda: torch.zeros(len(cases), dtype=torch.bool)
    return cache(partial(_beaten, table, cases))


def _beaten(table: EmbeddingTable, cases: Sequence[Case]) -> Tensor | None:
    captions = dict(_captions(table))
    judgements = [Judgement(case.item, _texts(case.right, captions), _texts(case.wrong, captions)) for case in cases]
    return right_beats_wrong(judgements, table.samples)


def _captions(table: EmbeddingTable) -> Iterator[tuple[int, str]]:
    """The row and the text of each caption."""
    for item, rows in caption_rows(table).items():
        yield from zip(rows, table.samples[item].text, strict=False)  # the table may have the first ones only


def _texts(references: Sequence[Reference], captions: Mapping[int, str]) -> tuple[str, ...]:
    """The captions; none if one of them is not known."""
    found = [one if isinstance(one, str) else captions.get(one[1]) for one in references]
    return () if None in found else tuple(filter(None, found))
