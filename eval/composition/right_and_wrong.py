"""Where a task's right and wrong captions come from: the data, rules that change right captions, or facts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from pydantic import Field

from tercet.configs.base import Config
from tercet.data_pipelines.captions.rules.sentence import normal
from tercet.data_pipelines.captions.rules.taggers import read
from tercet.data_pipelines.captions.rules.wrong import FAMILIES, RULES
from tercet.data_pipelines.captions.templates import agree
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.seeding import keyed
from tercet.eval.composition.comparisons import Case, Reference
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.task import NoValue, lookup

SLOT = re.compile(r"\{([^{}]+)\}")

Wrong = tuple[str, str]  # the kind of a mistake, and the caption that has it


class Statement(Config):
    """A right and a wrong caption, worded from facts about a sample."""

    kind: str = Field(description="the kind of the mistake, which names its row")
    right: str = Field(
        description="template of the right caption; slots are paths in the sample's `meta`: a {objects[0].shape}"
    )
    wrong: str = Field(description="template of the wrong caption")
    differ: tuple[str, ...] = Field(
        (), description="paths whose values must differ, so that the wrong caption is wrong; other samples are left out"
    )

    def of(self, meta: Mapping[str, object]) -> tuple[str, str] | None:
        """The right and the wrong caption of a sample. None if it lacks a fact, or the wrong one would not be wrong."""
        try:
            values = [str(lookup(meta, path)) for path in self.differ]
            right, wrong = (agree(filled(template, meta)) for template in (self.right, self.wrong))
        except NoValue:
            return None
        return (right, wrong) if len(set(values)) == len(values) and right != wrong else None


def filled(template: str, meta: Mapping[str, object]) -> str:
    """The template with the values at the paths in its slots."""
    return SLOT.sub(lambda slot: str(lookup(meta, slot[1])), template)


def from_data(sample: Sample) -> list[Wrong]:
    """The list `negatives` of a sample."""
    listed = sample.meta.get("negatives", ())
    if not isinstance(listed, list | tuple):
        return []
    mistakes = [wrong for wrong in listed if isinstance(wrong, Mapping)]
    if any(not {"kind", "text"} <= wrong.keys() for wrong in mistakes):
        raise EvalError(
            f"`negatives` of sample `{sample.key}` lack a `kind` or a `text`; write each as "
            '{"kind": "swap", "text": "a blue boat"}'
        )
    return [(str(wrong["kind"]), str(wrong["text"])) for wrong in mistakes]


def from_rules(sample: Sample, rules: Sequence[str]) -> list[Wrong]:
    """A wrong caption by each rule that applies to the first caption. They are the same for every model."""
    if not sample.text:
        return []
    sentence, seen, made = read(sample.text[0], "words"), {normal(one) for one in sample.text}, []
    for name in chain.from_iterable(_members(rule) for rule in rules):
        text = RULES[name](sentence, keyed(f"wrong captions by {name}", 0, item=sample.id))
        if text is not None and normal(text) not in seen:
            seen.add(normal(text))
            made.append((name, text))
    return made


def _members(rule: str) -> list[str]:
    return [one.__name__ for one in FAMILIES.get(rule, ())] or [rule]


def of_captions(
    table: EmbeddingTable, modality: str, wrong: Mapping[int, Sequence[Wrong]], right: int, jointly: bool
) -> Iterator[Case]:
    """The first `right` captions of each item against each of its wrong ones, or against all of them at once."""
    rows, media = caption_rows(table), table.first_rows(modality)
    for item in sorted(wrong.keys() & rows.keys() & media.keys()):
        sample, embedded = table.samples[item], rows[item][:right]
        own: tuple[Reference, ...] = (*(("text", row) for row in embedded), *sample.text[len(embedded) : right])
        if len(own) < right:
            raise EvalError(f"sample `{sample.key}` has {len(own)} captions, and the task compares {right} right ones")
        anchors = ((modality, media[item]),)
        if jointly and wrong[item]:
            yield Case(item, "all", anchors, own, tuple(text for _, text in wrong[item]))
        elif not jointly:
            yield from (Case(item, kind, anchors, own, (text,)) for kind, text in wrong[item])


def of_statements(table: EmbeddingTable, modality: str, statements: Sequence[Statement]) -> Iterator[Case]:
    """Each statement about each item that it is true of."""
    for item, row in sorted(table.first_rows(modality).items()):
        for statement in statements:
            if worded := statement.of(table.samples[item].meta):
                right, wrong = worded
                yield Case(item, statement.kind, ((modality, row),), (right,), (wrong,))


def of_pairs(table: EmbeddingTable, modality: str, path: str) -> Iterator[Case]:
    """Every two items whose `meta` names the same pair, with the first caption of each. One without the other is left
    out."""
    rows, media = caption_rows(table), table.first_rows(modality)
    pairs: dict[str, list[int]] = {}
    for item in sorted(rows.keys() & media.keys(), key=lambda item: table.samples[item].id):
        try:
            pairs.setdefault(str(lookup(table.samples[item].meta, path)), []).append(item)
        except NoValue:
            continue
    for name, items in pairs.items():
        if len(items) > 2:
            raise EvalError(f"`{path}` {name} names {len(items)} samples with {modality} and text; a pair is two")
        if len(items) < 2:
            continue
        anchors = tuple((modality, media[item]) for item in items)
        right = tuple(("text", rows[item][0]) for item in items)
        yield Case(items[0], str(table.samples[items[0]].meta.get("kind", "all")), anchors, right)


def caption_rows(table: EmbeddingTable) -> dict[int, list[int]]:
    """The rows of each item's captions, in their order."""
    found: dict[int, list[int]] = {}
    for row, item in enumerate(table.items["text"].tolist() if "text" in table.items else ()):
        found.setdefault(item, []).append(row)
    return found
