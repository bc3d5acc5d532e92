"""Which of given labels a sample has, for zero-shot classification with labels of one's own.

The label of a sample is its `label`, or else its `class`: a column of the table, or the name of its folder. Capitals,
hyphens and underscores do not matter, and a number is a place in the list of labels, from zero. A sample that has
neither has the label that its first caption names in whole words. If the caption names none or several, the sample is
left out.
"""

import re
from collections.abc import Sequence

from tercet.data_pipelines.sample import Sample

KEYS = ("label", "class")


def label_of(sample: Sample, labels: Sequence[str]) -> str | None:
    """The label of a sample, if it has one."""
    known = {plain(label): label for label in labels}
    named = next((sample.meta[key] for key in KEYS if sample.meta.get(key) is not None), None)
    if named is not None:
        return known.get(plain(str(named))) or _counted(named, labels)
    matches = {label for name, label in known.items() if sample.text and _names(sample.text[0], name)}
    return matches.pop() if len(matches) == 1 else None


def plain(name: str) -> str:
    """A name without capitals, hyphens and underscores; of a path, the last part."""
    return re.sub(r"[\s_-]+", " ", name.rpartition("/")[2]).strip().casefold()


def numbered(names: Sequence[str]) -> dict[str, str]:
    """The classes by their names; by their numbers if names repeat, or could be mistaken for numbers."""
    plainly = set(map(plain, names))
    by_number = len(plainly) < len(names) or any(map(str.isdecimal, plainly))
    return {str(number) if by_number else name: name for number, name in enumerate(names)}


def _counted(named: object, labels: Sequence[str]) -> str | None:
    number = str(named)
    return labels[int(number)] if number.isdecimal() and int(number) < len(labels) else None


def _names(caption: str, name: str) -> bool:
    """Whether a caption contains the name in whole words, also as a plural."""
    return re.search(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", plain(caption)) is not None
