"""Captions from templates: slots filled with words, words varied by synonyms, articles that fit."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def choose(options: Sequence[T], dice: np.random.Generator) -> T:
    return options[int(dice.integers(len(options)))]


def reword(word: str, synonyms: Mapping[str, Sequence[str]], share: float, dice: np.random.Generator) -> str:
    """One of the word's synonyms in `share` of the cases, the word itself otherwise."""
    others = synonyms.get(word, ())
    return choose(others, dice) if others and dice.random() < share else word


def agree(sentence: str) -> str:
    """`a` before a vowel becomes `an`."""
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)
