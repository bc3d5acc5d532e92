"""The words of captions, and the templates that many captions share."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain, groupby

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
FRAME = 0.1  # share of the captions that have a word which belongs to a template
GAP = "…"


def words(caption: str) -> list[str]:
    return WORD.findall(caption.casefold())


def templates(captions: Iterable[str], most: int) -> list[tuple[str, int]]:
    """Captions with gaps for rare words, most frequent first; a gap alone is not a template."""
    worded = [words(caption) for caption in captions]
    spread = Counter(chain.from_iterable(map(set, worded)))
    frame = {word for word, count in spread.items() if count >= max(2, FRAME * len(worded))}
    shapes = Counter(_shape(caption, frame) for caption in worded)
    del shapes[GAP], shapes[""]
    repeated = ((shape, count) for shape, count in shapes.items() if count > 1)
    return sorted(repeated, key=lambda shape: (-shape[1], shape[0]))[:most]


def _shape(caption: list[str], frame: set[str]) -> str:
    parts = groupby(word if word in frame else GAP for word in caption)
    return " ".join(chain.from_iterable([GAP] if word == GAP else list(run) for word, run in parts))
