"""Which of given labels a sample has, for zero-shot classification with labels of one's own.

A sample's class is its `label`, or else its `class`: a column of the table, or the folder that it lies in. Capitals,
hyphens and underscores make no difference, and a number counts the labels from zero. A sample that has neither is of
the one label that its first caption names in whole words; where none or several are named, it is left out.
"""

import re
from collections.abc import Sequence

from tercet.data_pipelines.sample import Sample

KEYS = ("label", "class")


def label_of(sample: Sample, labels: Sequence[str]) -> str | None:
    """The label that a sample bears, if any."""
    known = {plain(label): label for label in labels}
    named = next((sample.meta[key] for key in KEYS if sample.meta.get(key) is not None), None)
    if named is not None:
        return known.get(plain(str(named))) or _counted(named, labels)
    said = {label for name, label in known.items() if sample.text and _says(sample.text[0], name)}
    return said.pop() if len(said) == 1 else None


def plain(name: str) -> str:
    """Of a folder in a folder, the last name."""
    return re.sub(r"[\s_-]+", " ", name.rpartition("/")[2]).strip().casefold()


def _counted(named: object, labels: Sequence[str]) -> str | None:
    number = str(named)
    return labels[int(number)] if number.isdecimal() and int(number) < len(labels) else None


def _says(caption: str, name: str) -> bool:
    """In whole words, also as a plural."""
    return re.search(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", plain(caption)) is not None
