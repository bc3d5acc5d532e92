"""A caption as words with their parts of speech, and the ways in which rules change it.

`a`/`an` and the capital letter at the start follow the changes, so that nothing but the mistake tells a wrong caption
from a right one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

from tercet.data_pipelines.captions.rules.vocabulary import DETERMINERS, SYMMETRIC
from tercet.data_pipelines.captions.templates import CONSONANT

Tag = Literal["noun", "plural", "adjective", "number", "verb", "adverb", "function"]
WORD = re.compile(r"(\w+(?:['’-]\w+)*)")
NOUNS = ("noun", "plural")
ARTICLES = ("a", "an")
Span = tuple[int, int]  # the first word, and the one after the last


@dataclass(frozen=True)
class Phrase:
    """A noun with what describes it: `a small red` from `start`, `fire engine` from `head` to `stop`."""

    start: int
    head: int
    stop: int


def parts_of(caption: str) -> tuple[str, ...]:
    """The words at odd places, and what is between them at even ones. The first word without its capital letter."""
    parts = WORD.split(caption)
    if len(parts) > 1 and parts[1].istitle() and parts[1] != "I":
        parts[1] = parts[1].lower()
    return tuple(parts)


@dataclass(frozen=True)
class Sentence:
    """`parts` has a word at each odd place; `tags` has the part of speech of each word."""

    caption: str
    parts: tuple[str, ...]
    tags: tuple[Tag, ...]

    @cached_property
    def words(self) -> tuple[str, ...]:
        return self.parts[1::2]

    @cached_property
    def lower(self) -> tuple[str, ...]:
        return tuple(word.lower() for word in self.words)

    def gap(self, place: int) -> str:
        """What is before this word."""
        return self.parts[2 * place]

    def places(self, *tags: Tag) -> list[int]:
        return [place for place, tag in enumerate(self.tags) if tag in tags]

    @cached_property
    def phrases(self) -> tuple[Phrase, ...]:
        found, start = [], 0
        while start < len(self.words):
            phrase = self._phrase(start)
            found += [phrase] if phrase else []
            start = phrase.stop if phrase else start + 1
        return tuple(found)

    def phrase_at(self, place: int) -> Phrase | None:
        return next((phrase for phrase in self.phrases if phrase.start <= place < phrase.stop), None)

    def _phrase(self, start: int) -> Phrase | None:
        """The phrase that begins at this word: an article or the like, numbers and adjectives, then nouns."""
        head = start + (self.lower[start] in DETERMINERS)
        head = self._run(head, start, ("adjective", "number"))
        stop = self._run(head, start, NOUNS)
        return Phrase(start, head, stop) if stop > head else None

    def _run(self, place: int, start: int, tags: Sequence[str]) -> int:
        while place < len(self.words) and self.tags[place] in tags and (place == start or self.gap(place) == " "):
            place += 1
        return place

    def replaced(self, words: Mapping[int, str]) -> str:
        """The caption with other words at these places."""
        parts = list(self.parts)
        for place, word in words.items():
            parts[2 * place + 1] = word
        return self._finished(parts)

    def exchanged(self, first: Span, second: Span) -> str:
        """The caption with two stretches of words exchanged, of which the first ends before the second begins."""
        (a, b), (c, d) = first, second
        parts = self.parts
        return self._finished(
            [
                *parts[: 2 * a + 1], *parts[2 * c + 1 : 2 * d],
                *parts[2 * b : 2 * c + 1], *parts[2 * a + 1 : 2 * b], *parts[2 * d :],
            ]
        )  # fmt: skip

    def may_change_places(self, one: Phrase, other: Phrase) -> bool:
        """Whether `A … B` says the same as `B … A`, as with `and` between them."""
        return all(word in SYMMETRIC for word in self.lower[one.stop : other.start])

    def _finished(self, parts: Sequence[str]) -> str:
        words = list(parts[1::2])
        known = {(article.lower(), word.lower()) for article, word in pairwise(self.words)}
        for place, (word, after) in enumerate(pairwise(words)):
            if word.lower() in ARTICLES and (word.lower(), after.lower()) not in known:
                words[place] = "an" if begins_with_vowel(after) else "a"
        if words and self.caption[len(self.parts[0]) :][:1].isupper():
            words[0] = words[0][:1].upper() + words[0][1:]
        return "".join(part for pair in zip(parts[::2], [*words, ""], strict=True) for part in pair)


def begins_with_vowel(word: str) -> bool:
    return word[:1].lower() in "aeiou" and not CONSONANT.match(word)


def listed(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The things that words such as `and` join, without their articles, in any order."""
    joined = " ".join(
        "|" if word.lower() in SYMMETRIC else word.lower() for word in words if word.lower() not in ARTICLES
    )
    return sorted(tuple(thing.split()) for thing in joined.split("|"))


def normal(caption: str) -> tuple[str, ...]:
    """What is compared to tell whether two captions are the same: their words in lower case."""
    return tuple(WORD.findall(caption.lower()))
