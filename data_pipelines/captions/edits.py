"""Captions that say the same in other words: EDA (Wei & Zou 2019), as CLIP-rocket (Fini et al. 2023) uses it.

A share of the captions loses its stop words. Of what is left, one change at most follows: a word is replaced by a
synonym, two words change places, or words are left out. The lists of words are English; in other languages, words still
change places and are left out.

Where this differs from the authors' code: synonyms come from a short list of what captions often name, in place of
WordNet, so many captions have none and do not change. Words are what spaces divide, so punctuation stays where it is.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.captions.plain_words import STOP_WORDS, SYNONYMS

if TYPE_CHECKING:
    import numpy as np

MARKS = ".,;:!?\"'()[]…“”"
DELETED = 0.1  # the share of the words that a deletion leaves out, as in EDA


class EditConfig(Config):
    """Random changes to the words of a caption. By default, nothing."""

    stop_words: float = Field(0.0, ge=0, le=1, description="share that loses its stop words, such as `the` and `of`")
    synonym: float = Field(0.0, ge=0, le=1, description="share in which a word is replaced by a synonym")
    swap: float = Field(0.0, ge=0, le=1, description="share in which two words change places")
    delete: float = Field(0.0, ge=0, le=1, description="share in which each word is left out with probability 0.1")

    @model_validator(mode="after")
    def _one_change_at_most(self) -> "EditConfig":
        total = self.synonym + self.swap + self.delete
        if total > 1 + 1e-9:
            raise Misfit(
                "synonym", f"`swap` and `delete` add up to {total:g}; give 1 at most: a caption gets one of them"
            )
        return self

    def __call__(self, caption: str, draw: "np.random.Generator") -> str:
        """The changed caption; the caption itself if nothing would be left."""
        words = caption.split()
        if draw.random() < self.stop_words:
            words = [word for word in words if core(word).lower() not in STOP_WORDS] or words
        chance = draw.random()
        for share, change in ((self.synonym, replaced), (self.swap, swapped), (self.delete, shortened)):
            if chance < share:
                words = change(words, draw)
                break
            chance -= share
        return " ".join(words) or caption

    def rows(
        self, captions: Sequence[tuple[str, float]], count: int, draw: "np.random.Generator"
    ) -> tuple[tuple[str, float], ...]:
        """So many rows, each changed by itself. Captions repeat if they are fewer."""
        chosen = [captions[row % len(captions)] for row in range(count)]
        return tuple((self(caption, draw), number) for caption, number in chosen)


def core(word: str) -> str:
    return word.strip(MARKS)


def replaced(words: list[str], draw: "np.random.Generator") -> list[str]:
    able = [place for place, word in enumerate(words) if core(word).lower() in SYNONYMS]
    if not able:
        return words
    place = able[draw.integers(len(able))]
    own = core(words[place])
    others = SYNONYMS[own.lower()]
    new = others[draw.integers(len(others))]
    new = new.capitalize() if own.istitle() else new
    return [*words[:place], words[place].replace(own, new), *words[place + 1 :]]


def swapped(words: list[str], draw: "np.random.Generator") -> list[str]:
    if len(words) < 2:
        return words
    one, other = draw.choice(len(words), 2, replace=False)
    words = words.copy()
    words[one], words[other] = words[other], words[one]
    return words


def shortened(words: list[str], draw: "np.random.Generator") -> list[str]:
    """At least one word stays."""
    kept = [word for word, chance in zip(words, draw.random(len(words)), strict=True) if chance >= DELETED]
    return kept or [words[draw.integers(len(words))]] if words else words
