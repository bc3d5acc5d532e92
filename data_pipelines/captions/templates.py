"""Captions from templates: fills slots, varies words by synonyms, and chooses articles."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

SLOT = "{}"
CONSONANT = re.compile(r"(?i)uni(?!n|m)|us[aeiu]|ut[ei]|eu|ew|one\b|once|ufo")  # vowels that sound like consonants
T = TypeVar("T")


def choose(options: Sequence[T], dice: "np.random.Generator") -> T:
    return options[int(dice.integers(len(options)))]


def reword(word: str, synonyms: Mapping[str, Sequence[str]], share: float, dice: "np.random.Generator") -> str:
    """One of the word's synonyms in `share` of the cases, the word itself otherwise."""
    others = synonyms.get(word, ())
    return choose(others, dice) if others and dice.random() < share else word


def agree(sentence: str) -> str:
    """`a` before a vowel becomes `an`."""
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


def filled(template: str, name: str) -> str:
    """The template with the name in its slot; `a {}` becomes `an {}` before a vowel."""
    if name[:1].lower() in tuple("aeiou") and not CONSONANT.match(name):
        template = re.sub(r"\b([Aa]) (?=\{\})", r"\1n ", template)
    return template.replace(SLOT, name)
