"""Composition: does the right caption score higher than one with a deliberate mistake? By kind of mistake.

A tie is wrong, so that constant embeddings have an accuracy of zero. Beside each result stands what text alone reaches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from pydantic import Field

from tercet.eval.blind import NAME, Judgement, right_beats_wrong
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder, embed_prompts
from tercet.eval.intervals import Share
from tercet.eval.measure import Measure
from tercet.eval.ranking import TIE
from tercet.eval.task import KINDS, Sensed, WordedTask


@KINDS.register("composition")
class CompositionTask(WordedTask):
    """Whether the right caption scores higher than one with a deliberate mistake."""

    undecidable: dict[Sensed, tuple[str, ...]] = Field(
        {}, description="kinds of mistakes that cannot be recognised in a modality, such as `{audio: [relation]}`"
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return composition(table, embed_text, self)


Blind = Callable[[], torch.Tensor | None]  # for each case, whether text alone finds the right caption


@dataclass(frozen=True)
class _Case(Judgement):
    """One wrong caption of one item, by the kind of its mistake."""

    kind: str


def composition(table: EmbeddingTable, embed_text: TextEmbedder, task: CompositionTask) -> list[Measure]:
    """The accuracy of every modality on every kind of wrong caption, and on all kinds together."""
    cases = _cases(table)
    if not cases:
        raise EvalError(f"task `{task.name}` needs wrong captions; add `negatives` to the `.json` of the samples")
    texts = sorted({case.wrong for case in cases})
    place = {text: row for row, text in enumerate(texts)}
    wrong = embed_prompts(embed_text, texts)[[place[case.wrong] for case in cases]]
    blind = cache(partial(right_beats_wrong, cases, table.samples))
    measures = []
    for modality in task.used_modalities(table):
        hidden = task.undecidable.get(modality, ())
        kept = [number for number, case in enumerate(cases) if case.kind not in hidden]
        measures += _accuracies(table, modality, [cases[number] for number in kept], wrong[kept], _some(blind, kept))
    return measures


def _cases(table: EmbeddingTable) -> list[_Case]:
    """All wrong captions of the items that have a right caption."""
    captioned = set(table.items["text"].tolist()) if "text" in table.items else set()
    found = []
    for item in sorted(captioned):
        listed = table.samples[item].meta.get("negatives", ())
        if isinstance(listed, list | tuple):
            found += [_Case(item, wrong["text"], wrong["kind"]) for wrong in listed if isinstance(wrong, Mapping)]
    return found


def _some(blind: Blind, kept: Sequence[int] | torch.Tensor) -> Blind:
    """The same for some of the cases."""

    def some() -> torch.Tensor | None:
        beaten = blind()
        return None if beaten is None else beaten[kept]

    return some


def _accuracy(blind: Blind) -> dict[str, float]:
    beaten = blind()
    return {} if beaten is None else {NAME: float(beaten.double().mean())}


def _accuracies(
    table: EmbeddingTable, modality: str, cases: list[_Case], wrong: torch.Tensor, blind: Blind
) -> list[Measure]:
    """By kind in alphabetical order, then all cases together if there are several kinds."""
    anchor, caption = table.first_rows(modality), table.first_rows("text")
    kept = [number for number, case in enumerate(cases) if case.item in anchor]
    if not kept:
        return []
    anchors = table.vectors[modality][[anchor[cases[number].item] for number in kept]]
    right = table.vectors["text"][[caption[cases[number].item] for number in kept]]
    beaten = ((anchors * right).sum(1) - (anchors * wrong[kept]).sum(1)) > TIE
    items = torch.tensor([cases[number].item for number in kept])
    kinds = [cases[number].kind for number in kept]
    measures = []
    for kind in [*sorted(set(kinds)), *(["all"] if len(set(kinds)) > 1 else [])]:
        chosen = torch.tensor([kind in (own, "all") for own in kinds])
        statistics = {"accuracy": Share(beaten[chosen])}
        groups = table.groups[items[chosen]]
        shortcuts = partial(_accuracy, _some(_some(blind, kept), chosen))
        subject, chance = f"{modality}, {kind}", {"accuracy": 0.5}
        measures.append(Measure(subject, statistics, items[chosen], groups, chance, shortcuts=shortcuts))
    return measures
