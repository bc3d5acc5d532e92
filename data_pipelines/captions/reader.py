"""Finds the captions of a sample, and chooses one of them.

img2dataset writes one caption to `.txt` and `.json`, LAION-CLAP a list to `text` of `.json`, and rewrites are further
keys. A sample need not have every place; a sample without any has no captions, which is allowed.
"""

from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice, repeat
from math import isfinite

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.keywords import KEYWORD_TEMPLATES, KEYWORDS, of_keywords
from tercet.data_pipelines.captions.languages import by_language
from tercet.data_pipelines.captions.text import MOST_CHARACTERS, cleaned, decode_captions
from tercet.data_pipelines.source import Files
from tercet.errors import UserError

USUAL = {"txt": 1.0, "json.text": 1.0, "json.caption": 1.0, "json.captions": 1.0}  # the first one there is taken
WORDED = ("text", "caption")  # keys of the words if captions are objects


@dataclass(frozen=True)
class Captions:
    """Captions that are not cleaned yet: cleaning takes time, and most captions are not chosen.

    `numbers` has the number of each caption, if the reader looks for one. A drawn caption of fewer than `least` words
    is replaced by one of the first place.
    """

    places: tuple[tuple[str, ...], ...] = ()
    weights: tuple[float, ...] = ()
    numbers: tuple[tuple[float, ...], ...] = ()
    least: int = 0

    def __bool__(self) -> bool:
        return bool(self.places)

    @property
    def too_long(self) -> bool:
        """Whether cleaning cuts one of them."""
        return any(len(caption) > MOST_CHARACTERS for captions in self.places for caption in captions)

    @property
    def all(self) -> tuple[str, ...]:
        """Every caption of the first place, for evaluation."""
        return _worded(*map(cleaned, self.places[0]))

    @property
    def every(self) -> tuple[str, ...]:
        """Every caption of every place."""
        return tuple(map(cleaned, chain.from_iterable(self.places)))

    @property
    def in_order(self) -> tuple[tuple[str, float], ...]:
        """Every caption of the first place, with its number, which is 1 if the reader looks for none."""
        numbers = self.numbers[0] if self.numbers else repeat(1.0)
        pairs = zip(map(cleaned, self.places[0]), numbers, strict=False)
        return tuple((caption, number) for caption, number in pairs if caption)

    def some(self, count: int, dice: np.random.Generator) -> tuple[tuple[str, float], ...]:
        """Up to `count` different captions of all places with their numbers, in any order."""
        captions = list(chain.from_iterable(self.places))
        numbers = list(chain.from_iterable(self.numbers)) or [1.0] * len(captions)
        chosen = ((cleaned(captions[at]), numbers[at]) for at in dice.permutation(len(captions))[:count].tolist())
        return tuple((caption, number) for caption, number in chosen if caption)

    def numbered(self) -> dict[int, tuple[str, float]]:
        """The captions of all places with their numbers, by their place in the list, without empty ones."""
        captions = map(cleaned, chain.from_iterable(self.places))
        numbers = list(chain.from_iterable(self.numbers)) or repeat(1.0)
        pairs = enumerate(zip(captions, numbers, strict=False))
        return {at: (caption, number) for at, (caption, number) in pairs if caption}

    def pick(self, place: float, caption: float) -> str:
        """One caption for training: a place by its weight, then any of its captions; both draws are from [0, 1)."""
        bounds = list(accumulate(self.weights))
        captions = self.places[min(bisect(bounds, place * bounds[-1]), len(bounds) - 1)]
        chosen = cleaned(captions[int(caption * len(captions))])
        if len(chosen.split()) < self.least:
            chosen = cleaned(self.places[0][int(caption * len(self.places[0]))])
        return _worded(chosen)[0]


class CaptionReader:
    """Reads captions from `places`, each with its share of the draws; by default from the usual places.

    A place is `txt`, or `json.KEY`, where a dot in the key goes deeper. The value is a string, a list of strings or a
    list of objects with `text` or `caption`; or a mapping from languages to such values. `number`: a further key of
    these objects, whose value is a number. `least`: how many words a drawn caption has; one with fewer is replaced by
    one of the first place, as LaCLIP does with failed rewrites (Fan et al. 2023).

    The value at a place `keywords.KEY` of `.json` is a list of keywords, or a string with commas between them. They
    make one caption with each of the `templates`, by default those of LAION-CLAP.
    """

    def __init__(
        self,
        places: Mapping[str, float],
        number: str | None = None,
        templates: tuple[str, ...] = (),
        least: int = 0,
    ) -> None:
        self._weights, self._number, self._least = _checked(places) or USUAL, number, least
        self._templates = templates or KEYWORD_TEMPLATES
        self._most = len(places) or 1
        roots = {place.partition(".")[0] for place in self._weights}
        self.wanted = frozenset("json" if root == KEYWORDS else root for root in roots)

    def __call__(self, files: Files, meta: Mapping[str, object]) -> Captions:
        """The captions in the files of a sample. A sample whose places are all empty is bad."""
        found = list(islice(self._present(files, meta), self._most))
        captions = _with_words(found)
        if found and not captions:
            raise BadSample("text: empty")
        return replace(captions, least=self._least) if self._least else captions

    def optional(self, files: Files, meta: Mapping[str, object]) -> Captions:
        """The captions of a sample that may have none, such as wrong captions."""
        found = _with_words(list(islice(self._present(files, meta), self._most)))
        return found if self._number is None else replace(found, numbers=self._numbers(meta))

    def _numbers(self, meta: Mapping[str, object]) -> tuple[tuple[float, ...], ...]:
        """The number of each caption that `_strings` finds."""
        found = []
        for place in self._weights:
            value = within(meta, place)
            values = value if isinstance(value, list) else [] if value is None else [value]
            numbers = tuple(_number(one, self._number) for one in values if _strings(one))
            found += [numbers] if numbers else []
        return tuple(found)

    def _present(self, files: Files, meta: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], float]]:
        for place, weight in self._weights.items():
            if place == "txt":
                if "txt" in files:
                    yield decode_captions(files["txt"]), weight
            elif (value := within(meta, place)) is not None:
                yield self._captions(place, value), weight

    def _captions(self, place: str, value: object) -> tuple[str, ...]:
        if not place.startswith(f"{KEYWORDS}."):
            return _strings(value)
        return of_keywords(value.split(",") if isinstance(value, str) else _strings(value), self._templates)


def _with_words(found: list[tuple[tuple[str, ...], float]]) -> Captions:
    worded = [(captions, weight) for captions, weight in found if captions]
    return Captions(tuple(captions for captions, _ in worded), tuple(weight for _, weight in worded))


def within(meta: Mapping[str, object], place: str) -> object:
    """The value at `json.KEY` or `json.KEY.KEY…`, or None. `keywords` is another name of `json`."""
    value: object = meta
    for key in place.split(".")[1:]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _checked(places: Mapping[str, float]) -> Mapping[str, float]:
    for place, weight in places.items():
        root, *keys = place.split(".")
        if place != "txt" and not (root in ("json", KEYWORDS) and keys and all(keys)):
            raise UserError(
                f"captions: unknown place `{place}`; write `txt`, json.KEY for a key of `.json`, or keywords.KEY for "
                "a list of keywords there"
            )
        if not (isfinite(weight) and weight >= 0):
            raise UserError(f"captions: the share of `{place}` is {weight:g}; give a number of at least 0")
    if places and not any(places.values()):
        raise UserError("captions: every share is 0; give one place a share above 0")
    return places


def _strings(value: object) -> tuple[str, ...]:
    values = chain.from_iterable(
        each if isinstance(each, list) else [each] for each in by_language(value).values() or [value]
    )
    return tuple(string for string in map(_string, values) if string and not string.isspace())


def _string(value: object) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in WORDED if key in value), None)
    if not isinstance(value, str):
        raise BadSample("json: a caption is not a string")
    return value


def _number(value: object, key: str | None) -> float:
    number = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(number, int | float) or not isfinite(number):
        raise BadSample(f"json: a caption has no number `{key}`")
    return float(number)


def _worded(*captions: str) -> tuple[str, ...]:
    """The captions that are not empty after cleaning."""
    worded = tuple(caption for caption in captions if caption)
    if not worded:
        raise BadSample("text: empty")
    return worded
