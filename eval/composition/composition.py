"""Composition: does the right caption score higher than one with a deliberate mistake? By kind of mistake.

Where right and wrong captions come from is in `right_and_wrong.py`, what must score higher than what in
`comparisons.py`. A tie is wrong, so that constant embeddings have an accuracy of zero. Beside each result stands what
text alone reaches.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tercet.configs.base import Misfit
from tercet.data_pipelines.captions.rules.wrong import fault
from tercet.data_pipelines.sample import Sample
from tercet.eval.composition.case_measures import measured, some, text_alone
from tercet.eval.composition.comparisons import Case, chance, hold
from tercet.eval.composition.right_and_wrong import (
    Statement,
    from_data,
    from_rules,
    of_captions,
    of_pairs,
    of_statements,
)
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.task import KINDS, NoValue, Sensed, WordedTask, has_entries

OF_PAIRS = ("text score", "image score", "group score")


@KINDS.register("composition")
class CompositionTask(WordedTask):
    """Whether the right caption scores higher than one with a deliberate mistake."""

    scores: tuple[Literal["accuracy", "text-only accuracy", "text score", "image score", "group score"], ...] = Field(
        ("accuracy",),
        min_length=1,
        description="accuracy: right captions score higher than wrong ones; text-only accuracy: two right captions are "
        "closer to each other than to the wrong one; of a `pair`: text score, image score, group score (Winoground)",
    )
    right: int = Field(1, gt=0, description="how many captions of an item must beat a wrong one: its first ones")
    against: Literal["each", "all"] = Field(
        "each", description="each wrong caption is a case of its own; or an item is right if it beats all of them"
    )
    rules: tuple[str, ...] = Field(
        (), description="make the wrong captions by these rules, such as [shuffle]; empty: the list `negatives` of the "
        "samples"
    )  # fmt: skip
    statements: tuple[Statement, ...] = Field(
        (), description="word right and wrong captions from the facts in `meta`, instead"
    )
    pair: str | None = Field(
        None, description="compare two samples with each other: where in `meta` is what names the pair"
    )
    count: dict[str, int] = Field(
        {}, description="only items whose list in `meta` has this many entries, such as `{objects: 2}`"
    )
    average: Literal["micro", "macro"] = Field(
        "micro",
        description="micro: a row for each kind of mistake, and one for all cases; macro: one row, the mean over the "
        "kinds, whose own accuracies are in the JSON",
    )
    least: int = Field(1, gt=0, description="leave out kinds of mistakes with fewer cases")
    undecidable: dict[Sensed, tuple[str, ...]] = Field(
        {}, description="kinds of mistakes that cannot be recognised in a modality, such as `{audio: [relation]}`"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "CompositionTask":
        named = [name for name in ("rules", "statements", "pair") if getattr(self, name)]
        if len(named) > 1:
            raise Misfit(named[1], f"does not work together with `{named[0]}`; leave one of them out")
        if self.rules and (wrong := fault(self.rules)):
            raise Misfit("rules", wrong)
        return self

    @model_validator(mode="after")
    def _scores_fit(self) -> "CompositionTask":
        for score in self.scores:
            if (score in OF_PAIRS) != bool(self.pair):
                needed = "needs `pair`: where samples name their pair" if score in OF_PAIRS else "has no wrong captions"
                raise Misfit("scores", f"`{score}` {needed}; choose another score, or change `pair`")
        if "text-only accuracy" in self.scores and self.right != 2:
            raise Misfit("right", f"is {self.right}, and `text-only accuracy` compares two right captions; set it to 2")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.scores

    def lighter(self) -> "CompositionTask":
        """With kinds of mistakes that are rare among few items."""
        return self.model_copy(update={"least": 1})

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return composition(table, embed_text, self)


def composition(table: EmbeddingTable, embed_text: TextEmbedder, task: CompositionTask) -> list[Measure]:
    """The scores of every modality on every kind of mistake, and on all kinds together."""
    by_modality = {modality: _cases(table, modality, task) for modality in task.used_modalities(table)}
    if not any(by_modality.values()):
        raise EvalError(f"task `{task.name}` needs {_needed(task)}")
    shown = {
        modality: [case for case in cases if case.kind not in task.undecidable.get(modality, ())]
        for modality, cases in by_modality.items()
    }
    if not any(shown.values()):
        raise EvalError(f"task `{task.name}` leaves out all kinds of mistakes of the data; change its `undecidable`")
    measures = []
    for modality, cases in shown.items():
        frequent = _frequent(cases, task.least)
        if cases and not frequent:
            raise EvalError(f"task `{task.name}` needs {task.least} cases of a kind, and no kind has so many")
        if frequent:
            holds: dict[str, Tensor] = {score: hold(frequent, score, table, embed_text) for score in task.scores}
            measures += _by_kind(table, modality, frequent, holds, task.average)
    return measures


def _cases(table: EmbeddingTable, modality: str, task: CompositionTask) -> list[Case]:
    if task.pair:
        found: Iterable[Case] = of_pairs(table, modality, task.pair)
    elif task.statements:
        found = of_statements(table, modality, task.statements)
    else:
        wrong = {
            item: from_rules(sample, task.rules) if task.rules else from_data(sample)
            for item, sample in enumerate(table.samples)
        }
        found = of_captions(table, modality, wrong, task.right, task.against == "all")
    return [case for case in found if _is_selected(table.samples[case.item], task)]


def _is_selected(sample: Sample, task: CompositionTask) -> bool:
    try:
        return has_entries(sample.meta, task.count)
    except NoValue:
        return False


def _needed(task: CompositionTask) -> str:
    if task.pair:
        return f"pairs of samples; name the pair of each in `{task.pair}`, a column or a key of its `.json`"
    if task.statements:
        return "samples with the facts that its statements name; add them as columns or keys of the `.json`"
    if task.rules:
        return f"captions that the rules {', '.join(task.rules)} can change"
    return "wrong captions; add `negatives` to the samples, as a column or a key of the `.json`"


def _frequent(cases: Sequence[Case], least: int) -> list[Case]:
    counts = Counter(case.kind for case in cases)
    return [case for case in cases if counts[case.kind] >= least]


def _by_kind(
    table: EmbeddingTable, modality: str, cases: Sequence[Case], holds: Mapping[str, Tensor], average: str
) -> list[Measure]:
    """By kind in alphabetical order, then all cases together if there are several kinds; or only their mean."""
    kinds, blind = sorted({case.kind for case in cases}), text_alone(table, cases)
    kind_C = torch.tensor([kinds.index(case.kind) for case in cases])
    chances = {score: chance(cases, score) for score in holds}
    items = [case.item for case in cases]
    if average == "macro":
        first_C = next(iter(holds.values())).double()
        own = {kind: float(first_C[kind_C == at].mean()) for at, kind in enumerate(kinds)}
        notes = {"kinds": len(kinds), "by kind": own}
        return [measured(table, f"{modality}, all", items, holds, chances, blind, kind_C, notes)]
    chosen = {kind: kind_C == at for at, kind in enumerate(kinds)}
    if len(kinds) > 1:
        chosen["all"] = torch.ones_like(kind_C, dtype=torch.bool)
    return [
        measured(
            table,
            f"{modality}, {kind}",
            torch.tensor(items)[mask_C].tolist(),
            {score: held_C[mask_C] for score, held_C in holds.items()},
            {score: chance_C[mask_C] for score, chance_C in chances.items()},
            some(blind, mask_C),
        )
        for kind, mask_C in chosen.items()
    ]
