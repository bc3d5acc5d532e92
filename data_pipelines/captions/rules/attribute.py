"""Replaces an attribute by another value: a colour, a size, a number, a material and so on.

After the replaced attributes of SugarCrepe (Hsieh et al., 2023), by lists of words in place of a language model.
"""

from typing import TYPE_CHECKING

from tercet.data_pipelines.captions.rules.sentence import Sentence
from tercet.data_pipelines.captions.rules.vocabulary import COPULAS, OF_WORD
from tercet.data_pipelines.captions.templates import choose

if TYPE_CHECKING:
    import numpy as np


def replace_attribute(sentence: Sentence, dice: "np.random.Generator") -> str | None:
    """Replaces an attribute by another of its family that the caption does not have yet."""
    options = [
        (place, other[0])
        for place, word in enumerate(sentence.lower)
        if word in OF_WORD and _describes(sentence, place)
        for _, family in OF_WORD[word]
        for other in family
        if word not in other and not set(other) & set(sentence.lower)
    ]
    if not options:
        return None
    place = choose(sorted({place for place, _ in options}), dice)
    return sentence.replaced({place: choose([word for at, word in options if at == place], dice)})


def _describes(sentence: Sentence, place: int) -> bool:
    """Before a noun, as in `a glass table`, and not in place of one, as in `a glass of water`; or after `is`."""
    phrase = sentence.phrase_at(place)
    before = sentence.lower[place - 1] if place else ""
    return (phrase is not None and place < phrase.stop - 1) or (before in COPULAS and phrase is None)
