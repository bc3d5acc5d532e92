"""Reverses a relation: names the opposite one, or exchanges what is on its two sides.

The exchange is that of ARO's relations (Yuksekgonul et al., 2023): `a man riding a horse` becomes `a horse riding a
man`. Of sounds in their order, it is T-CLAP's (Yuan et al., 2024): `a dog barks, then a car honks`.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from tercet.data_pipelines.captions.rules.sentence import Phrase, Sentence, Span
from tercet.data_pipelines.captions.rules.vocabulary import COPULAS, FUNCTION, IN_ORDER, RELATIONS, SYMMETRIC
from tercet.data_pipelines.captions.templates import choose

if TYPE_CHECKING:
    import numpy as np

OPPOSITES = tuple(pair for one, other in RELATIONS for pair in ((one, other), (other, one)))
LONG_FIRST = tuple(sorted(OPPOSITES, key=lambda pair: -len(pair[0].split())))
NOT_REVERSED = frozenset(["of", "for", "about", "as", "than", "like", "there"])  # `a glass of water` has no two sides


def opposite_relation(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    """`to the left of` becomes `to the right of`."""
    found = list(_named(sentence))
    if not found:
        return None
    (start, stop), other = choose(found, dice)
    before, after = sentence.parts[: 2 * start + 1], sentence.parts[2 * stop :]
    caption = "".join([*before, other, *after])
    return caption[:1].upper() + caption[1:] if sentence.caption[:1].isupper() else caption


def _named(sentence: Sentence) -> Iterator[tuple[Span, str]]:
    """The relations of the caption with their opposites. A word is part of the longest one only."""
    taken: set[int] = set()
    for relation in dict.fromkeys(relation for relation, _ in LONG_FIRST):
        spans = [(start, stop) for start, stop in _spans(sentence, relation) if not taken & set(range(start, stop))]
        for start, stop in spans:
            taken |= set(range(start, stop))
            if _adjoins(sentence, start, stop):
                yield from (((start, stop), other) for one, other in LONG_FIRST if one == relation)


def _spans(sentence: Sentence, phrase: str) -> Iterator[Span]:
    """Where these words are in the caption."""
    words = tuple(phrase.split())
    if words[0] not in sentence.lower:
        return
    for start in range(len(sentence.lower) - len(words) + 1):
        if sentence.lower[start : start + len(words)] == words:
            yield start, start + len(words)


def _adjoins(sentence: Sentence, start: int, stop: int) -> bool:
    """`all over` and `over there` name no relation. `with` does where a noun is before and after it."""
    before = sentence.lower[start - 1] if start else ""
    after = sentence.lower[stop] if stop < len(sentence.lower) else ""
    if sentence.lower[start:stop] == ("with",):
        return sentence.phrase_at(stop) is not None and start > 0 and sentence.phrase_at(start - 1) is not None
    return before != "all" and after not in ("there", "all")


def reverse_relation(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    """Exchanges two phrases with a verb or a preposition between them, or what happens first and then."""
    options = [*_clauses(sentence), *_sides(sentence)]
    if not options:
        return None
    return sentence.exchanged(*choose(options, dice))


def _clauses(sentence: Sentence) -> Iterator[tuple[Span, Span]]:
    """The two halves of a caption around a single `then`, `followed by` and the like."""
    end = len(sentence.words)
    found: list[Span] = []
    for words in IN_ORDER:
        for start, stop in _spans(sentence, words):
            if not any(a <= start < b for a, b in found):
                found.append((start, stop))
    if len(found) != 1 or not 0 < found[0][0] < found[0][1] < end:
        return
    start, stop = found[0]
    halves = sentence.lower[:start], sentence.lower[stop:]
    whole = all(re.fullmatch(r"[ ,]*", sentence.gap(place)) for place in range(1, end))
    if whole and halves[0] != halves[1]:
        yield (0, start), (stop, end)


def _sides(sentence: Sentence) -> Iterator[tuple[Span, Span]]:
    for one, other in pairwise(sentence.phrases):
        between = sentence.lower[one.stop : other.start]
        unlike = sentence.lower[one.start : one.stop] != sentence.lower[other.start : other.stop]
        if unlike and between and _has_sides(sentence, one, other) and not set(between) & {*NOT_REVERSED, "then"}:
            yield (one.start, one.stop), (other.start, other.stop)


def _has_sides(sentence: Sentence, one: Phrase, other: Phrase) -> bool:
    """Whether the words between relate the two: a verb that agrees with both, or a preposition with two sides."""
    places = range(one.stop, other.start)
    if any(sentence.gap(place) != " " for place in (*places, other.start)):
        return False
    if any(sentence.lower[place] in ("and", "or", "but", "while", "with", "without") for place in places):
        return False
    if all(sentence.lower[place] in SYMMETRIC for place in places):
        return False
    same_number = sentence.tags[one.stop - 1] == sentence.tags[other.stop - 1]
    agrees = any(sentence.tags[place] == "verb" and not sentence.lower[place].endswith("ing") for place in places)
    return same_number or not (agrees or set(sentence.lower[one.stop : other.start]) & (COPULAS & FUNCTION))
