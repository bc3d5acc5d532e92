"""How often each entry of a balance is in captions, before and after: a curve of counts by rank, and its ends."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tercet.page.axis import Area, words

AREA = Area(1100, 220, left=52, right=12, top=12, bottom=28)
POINTS = 160  # of a curve
LISTED = 15


@dataclass(frozen=True)
class Concept:
    language: str
    entry: str
    before: int
    after: int


@dataclass(frozen=True)
class ConceptBalance:
    """`before`, `after`: the path of each curve. `frequent`, `rare`: entries at both ends."""

    entries: int
    before: str
    after: str
    frequent: tuple[Concept, ...]
    rare: tuple[Concept, ...]
    head: tuple[float, float]  # the share of all matches that the most frequent hundredth of the entries has
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    area: Area = AREA


def read_balance(path: Path) -> ConceptBalance | None:
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            Concept(row["language"], row["entry"], int(row["before"]), int(row["after"]))
            for row in csv.DictReader(file)
        ]
    return balance_of(rows) if rows else None


def balance_of(concepts: Sequence[Concept]) -> ConceptBalance:
    """The most frequent entries come first."""
    most = math.log10(max(concepts[0].before, 10))
    x_at = AREA.across(0, math.log10(max(len(concepts), 2)))
    y_at = AREA.up(0, most)
    before = [concept.before for concept in concepts]
    after = sorted((concept.after for concept in concepts), reverse=True)
    hundredth = max(len(concepts) // 100, 1)
    heads = [sum(counts[:hundredth]) / max(sum(counts), 1) for counts in (before, after)]
    powers = range(math.floor(most) + 1)
    across = range(math.floor(math.log10(len(concepts))) + 1)
    return ConceptBalance(
        len(concepts),
        _path(before, x_at, y_at),
        _path(after, x_at, y_at),
        tuple(concepts[:LISTED]),
        tuple(concepts[max(len(concepts) - LISTED, LISTED) :]),
        (heads[0], heads[1]),
        tuple((x_at(power), words(10.0**power)) for power in across),
        tuple((y_at(power), words(10.0**power)) for power in powers),
    )


def _path(counts: Sequence[int], x_at: Callable[[float], float], y_at: Callable[[float], float]) -> str:
    return "M" + "L".join(f"{x_at(x)},{y_at(y)}" for x, y in _points(counts))


def _points(counts: Sequence[int]) -> list[tuple[float, float]]:
    """At ranks that are evenly spread on a logarithmic axis. A count of 0 is drawn like 1."""
    last = math.log10(len(counts)) if len(counts) > 1 else 0.0
    ranks = sorted({round(10 ** (last * step / POINTS)) for step in range(POINTS + 1)})
    return [(math.log10(rank), math.log10(max(counts[rank - 1], 1))) for rank in ranks if rank <= len(counts)]
