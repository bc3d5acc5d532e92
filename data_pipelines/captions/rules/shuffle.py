"""Shuffles words, in the four ways of ARO's tests of order (Yuksekgonul et al., 2023).

One departure: a shuffle that only lists the same things in another order is not made. A place is the number of a word.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tercet.data_pipelines.captions.rules.sentence import NOUNS, Sentence, listed

if TYPE_CHECKING:
    import numpy as np

TRIES = 8  # a shuffle may leave all words where they are
DESCRIBED = (*NOUNS, "adjective")


def shuffle_nouns_and_adj(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    places = [place for place, tag in enumerate(sentence.tags) if tag in DESCRIBED]
    return _shuffled(sentence, lambda: _permuted(places, dice))


def shuffle_allbut_nouns_and_adj(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    places = [place for place, tag in enumerate(sentence.tags) if tag not in DESCRIBED]
    return _shuffled(sentence, lambda: _permuted(places, dice))


def shuffle_within_trigrams(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    def within() -> dict[int, int]:
        return {place: source for three in _trigrams(sentence) for place, source in _permuted(three, dice).items()}

    return _shuffled(sentence, within)


def shuffle_trigrams(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    trigrams = _trigrams(sentence)

    def across() -> dict[int, int]:
        order = [place for three in dice.permutation(len(trigrams)).tolist() for place in trigrams[three]]
        return dict(enumerate(order))

    return _shuffled(sentence, across)


def _trigrams(sentence: Sentence) -> list[Sequence[int]]:
    count = len(sentence.words)
    return [range(start, min(start + 3, count)) for start in range(0, count, 3)]


def _permuted(places: Sequence[int], dice: "np.random.Generator") -> dict[int, int]:
    """For each place, the place that its new word comes from."""
    return {place: places[source] for place, source in zip(places, dice.permutation(len(places)).tolist(), strict=True)}


def _shuffled(sentence: Sentence, draw: Callable[[], dict[int, int]]) -> str | None:
    """The first draw that changes what the caption says."""
    for _ in range(TRIES):
        moved = {place: sentence.words[source] for place, source in draw().items()}
        words = [moved.get(place, word) for place, word in enumerate(sentence.words)]
        if listed(words) != listed(sentence.words):
            return sentence.replaced(moved)
    return None
