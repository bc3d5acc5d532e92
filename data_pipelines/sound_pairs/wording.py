"""The caption of a sample made of two sounds, and captions that are wrong about it.

After the temporal negatives of T-CLAP (Yuan et al. 2024) and TeminAL (Sinha et al. 2024). The words come from
templates and not from a language model, so that a wrong caption is worded as right ones are.
"""

import re
from collections.abc import Iterator

import numpy as np

from tercet.data_pipelines.captions.templates import choose
from tercet.data_pipelines.sound_pairs.config import Join, SoundPairsConfig

OTHER: dict[Join, Join] = {"then": "while", "while": "then"}
SLOT = re.compile(r"\{([ab])\}")
STOP = re.compile(r"[\s.!]+$")  # ends a sentence, which goes on here


def filled(template: str, a: str, b: str) -> str:
    """The template with both captions, without the full stops at their ends."""
    words = {"a": STOP.sub("", a), "b": STOP.sub("", b)}
    return SLOT.sub(lambda slot: words[slot[1]], template)


def worded(
    config: SoundPairsConfig, join: Join, a: str, b: str, dice: np.random.Generator
) -> tuple[str, list[dict[str, str]]]:
    """The caption of two sounds, and wrong ones with their kinds."""
    template, other = choose(config.wordings(join), dice), choose(config.wordings(OTHER[join]), dice)
    alone = choose((a, b), dice)
    wrong = {"order": filled(template, b, a), "join": filled(other, a, b), "single": alone}
    kinds: Iterator[str] = (kind for kind in config.wrong if (kind, join) != ("order", "while"))  # at once has no order
    return filled(template, a, b), [{"kind": kind, "text": wrong[kind]} for kind in kinds]
