"""Exchanges two nouns or two adjectives, as the hard negatives of NegCLIP (Yuksekgonul et al., 2023).

Two departures: an exchange that says the same, as of `a dog and a cat`, is not made, and nouns change places with nouns
of the same number only, so that the caption stays fluent.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from tercet.data_pipelines.captions.rules.sentence import ARTICLES, Phrase, Sentence
from tercet.data_pipelines.captions.rules.vocabulary import OF_WORD
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
    """Two of one kind, such as two colours or two numbers, or the only ones of two nouns; never two of one noun.

    Kinds of adjectives have an order: `a wooden small table` is odd, which would give the caption away.
    """
    pairs = list(_adjectives(sentence))
    if not pairs:
        return None
    one, other = choose(pairs, dice)
    return sentence.replaced({one: sentence.words[other], other: sentence.words[one]})


def _adjectives(sentence: Sentence) -> Iterator[tuple[int, int]]:
    for one, other in combinations(sentence.places("adjective", "number"), 2):
        first, second = sentence.phrase_at(one), sentence.phrase_at(other)
        if (first is not None and first == second) or not _may_swap(sentence, one, other):
            continue
        if not (first and second and _same_things(sentence, one, other, first, second)):
            yield one, other


def _may_swap(sentence: Sentence, one: int, other: int) -> bool:
    words = sentence.lower[one], sentence.lower[other]
    if words[0] == words[1] or "one" in words or sentence.tags[one] != sentence.tags[other]:
        return False
    kinds = [{kind for kind, _ in OF_WORD.get(word, ())} for word in words]
    return (
        sentence.tags[one] == "number"
        or bool(kinds[0] & kinds[1])
        or all(_is_alone(sentence, place) for place in (one, other))
    )


def _is_alone(sentence: Sentence, place: int) -> bool:
    """Whether it is the only adjective of its noun."""
    phrase = sentence.phrase_at(place)
    return phrase is None or sentence.tags[phrase.start : phrase.head].count("adjective") == 1


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
