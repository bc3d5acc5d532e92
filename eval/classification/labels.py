"""Which of given labels a sample has, for zero-shot classification with labels of one's own.

The label of a sample is its `label`, or else its `class`: a column of the table, or the name of its folder. Capitals,
hyphens and underscores do not matter, unless they are all that tells two labels apart. A number is a place in the list
of labels, from zero, unless labels are numbers themselves. A sample that has neither has the label that its first
caption names in whole words. If the caption names none or several, the sample is left out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tercet.data_pipelines.sample import Sample

KEYS = ("label", "class")


class Spellings:
    """Labels by their own spelling, or else by their plain one, which must be that of a single label."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._own = frozenset(labels)
        counts = Counter(map(plain, self._own))
        self.plain = {plain(label): label for label in self._own if counts[plain(label)] == 1}

    def find(self, name: str) -> str | None:
        return name if name in self._own else self.plain.get(plain(name))


class LabelReader:
    """Finds the label of samples."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels, self._spellings = labels, Spellings(labels)
        self._numbered = not any(map(str.isdecimal, labels))
        self._whole = {name: re.compile(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)") for name in self._spellings.plain}

    def __call__(self, sample: Sample) -> str | None:
        """The label of a sample, if it has one."""
        named = next((sample.meta[key] for key in KEYS if sample.meta.get(key) is not None), None)
        if named is not None:
            return self._spellings.find(str(named)) or self._counted(str(named))
        found = self._named_in(plain(sample.text[0])) if sample.text else []
        return found[0] if len(found) == 1 else None

    def _counted(self, number: str) -> str | None:
        known = self._numbered and number.isdecimal() and int(number) < len(self._labels)
        return self._labels[int(number)] if known else None

    def _named_in(self, caption: str) -> list[str]:
        """The labels that a caption contains in whole words, also as a plural."""
        held = [name for name in self._whole if name in caption]
        return [self._spellings.plain[name] for name in held if self._whole[name].search(caption)]


def plain(name: str) -> str:
    """A name without capitals, hyphens and underscores; of a path, the last part."""
    return re.sub(r"[\s_-]+", " ", name.rpartition("/")[2]).strip().casefold()


def numbered(names: Sequence[str]) -> dict[str, str]:
    """The classes by their names; by their numbers if names repeat, or could be mistaken for numbers."""
    plainly = set(map(plain, names))
    by_number = len(plainly) < len(names) or any(map(str.isdecimal, plainly))
    return {str(number) if by_number else name: name for number, name in enumerate(names)}
