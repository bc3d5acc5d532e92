"""Exchanges two nouns or two adjectives, as the hard negatives of NegCLIP (Yuksekgonul et al., 2023).

Two departures: an exchange that says the same, as of `a dog and a cat`, is not made, and nouns change places with nouns
of the same number only, so that the caption stays fluent.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from tercet.data_pipelines.captions.rules.sentence import ARTICLES, Phrase, Sentence
from tercet.data_pipelines.captions.templates import choose

if TYPE_CHECKING:
    import numpy as np


def swap_nouns(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    pairs = [
        (one, other)
        for one, other in combinations(sentence.phrases, 2)
        if not _noun(sentence, one) & _noun(sentence, other)
        and sentence.tags[one.stop - 1] == sentence.tags[other.stop - 1]
        and not (sentence.may_change_places(one, other) and _about(sentence, one) == _about(sentence, other))
    ]
    if not pairs:
        return None
    one, other = choose(pairs, dice)
    return sentence.exchanged((one.head, one.stop), (other.head, other.stop))


def swap_adjectives(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    """Also of two numbers, but not of an adjective and a number, nor of two adjectives of one noun."""
    pairs = list(_adjectives(sentence))
    if not pairs:
        return None
    one, other = choose(pairs, dice)
    return sentence.replaced({one: sentence.words[other], other: sentence.words[one]})


def _adjectives(sentence: Sentence) -> Iterator[tuple[int, int]]:
    for one, other in combinations(sentence.places("adjective", "number"), 2):
        first, second = sentence.phrase_at(one), sentence.phrase_at(other)
        words = {sentence.lower[one], sentence.lower[other]}
        unlike = len(words) == 2 and sentence.tags[one] == sentence.tags[other] and "one" not in words
        same = first is not None and first == second
        if unlike and not same and not (first and second and _same_things(sentence, one, other, first, second)):
            yield one, other


def _same_things(sentence: Sentence, one: int, other: int, first: Phrase, second: Phrase) -> bool:
    """Whether an exchange of these adjectives leaves the same things in another order."""
    if not sentence.may_change_places(first, second):
        return False
    before = [Counter(sentence.lower[phrase.start : phrase.stop]) for phrase in (first, second)]
    words = list(sentence.lower)
    words[one], words[other] = words[other], words[one]
    after = [Counter(words[phrase.start : phrase.stop]) for phrase in (first, second)]
    return before == after[::-1]


def _noun(sentence: Sentence, phrase: Phrase) -> set[str]:
    return set(sentence.lower[phrase.head : phrase.stop])


def _about(sentence: Sentence, phrase: Phrase) -> Counter[str]:
    """What describes the noun."""
    return Counter(word for word in sentence.lower[phrase.start : phrase.head] if word not in ARTICLES)
