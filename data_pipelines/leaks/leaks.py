"""Finds what an evaluation set shares with a training set: pictures, sounds and captions, byte by byte or perceptually.

The evaluation set, which is smaller, is in memory as fingerprints; the training set is read once. Pictures with similar
hashes are compared again in colour before they count as the same.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.duplicates import picture
from tercet.data_pipelines.duplicates.prints import WANTED, Print, Printer, media
from tercet.data_pipelines.leaks.eval_index import CAPTION, LOOKS, Evidence
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.survey.walk import parts_of, walk

KEPT = 256  # looks of evaluation pictures that are kept for the next comparison


@dataclass(frozen=True)
class Leak:
    """A training sample and an evaluation sample, and what they share."""

    kind: str
    train_shard: str
    train_key: str
    eval_shard: str
    eval_key: str


@dataclass
class Count:
    """Samples that were compared, those that could not be, and leaks by kind."""

    train: int
    evaluation: int
    bad: Counter[str] = field(default_factory=Counter)
    leaks: Counter[str] = field(default_factory=Counter)
    eval_samples: dict[str, set[int]] = field(default_factory=dict)  # that leaked, by kind

    @property
    def leaked(self) -> int:
        """Evaluation samples whose picture or sound is known. Captions may be the same by chance; these are not."""
        return len(set().union(*(ids for kind, ids in self.eval_samples.items() if kind != CAPTION)))

    @property
    def clean(self) -> bool:
        return not self.leaked

    def to_json(self) -> dict[str, Any]:
        leaked = {
            kind: {"pairs": self.leaks[kind], "eval_samples": len(self.eval_samples[kind])} for kind in self.leaks
        }
        samples = {"train": self.train, "eval": self.evaluation}
        return {"samples": samples, "bad": dict(self.bad), "leaks": leaked, "clean": self.clean}


class Inquiry:
    """Compares a training set with an evaluation set; `count` is complete after an iteration over `leaks`."""

    def __init__(self, train: Source, evaluation: Source, workers: int) -> None:
        self.train, self.evaluation, self.workers = train, evaluation, workers
        self.count = Count(len(train), len(evaluation))
        self._look = lru_cache(KEPT)(partial(_look, evaluation))

    def leaks(self) -> Iterator[Leak]:
        known = Evidence(self._prints(self.evaluation, "reading what is evaluated"))
        for one in self._prints(self.train, "comparing"):
            for kind, other in known.like(one):
                if kind == LOOKS and not picture.alike(_look(self.train, one.id), self._look(other)):
                    continue
                self.count.leaks[kind] += 1
                self.count.eval_samples.setdefault(kind, set()).add(other)
                yield self._leak(kind, one.id, other)

    def _prints(self, source: Source, purpose: str) -> Iterator[Print]:
        parts = parts_of(range(len(source)))
        for prints, bad in walk(Printer(source), parts, self.workers, purpose):
            self.count.bad += bad
            yield from prints

    def _leak(self, kind: str, train: int, evaluation: int) -> Leak:
        source, other = self.train, self.evaluation
        return Leak(kind, source.shard(train), source.key(train), other.shard(evaluation), other.key(evaluation))


def write_leaks(leaks: Iterator[Leak], path: Path | None) -> None:
    """Iterates over the leaks, and writes each one when it is found."""
    with nullcontext() if path is None else path.open("w", encoding="utf-8") as lines:
        for leak in leaks:
            if lines is not None:
                lines.write(json.dumps(asdict(leak)) + "\n")


def _look(source: Source, id: int) -> Image.Image:
    (files,) = source.read([id], WANTED)
    data = None if isinstance(files, BadSample) else media(files, "image")
    assert data is not None  # its print was taken
    return picture.look(data)
