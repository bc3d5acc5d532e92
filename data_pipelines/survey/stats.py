"""Statistics of a dataset: sizes, durations, captions, duplicates; of all samples, or of a random sample."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tercet.data_pipelines.plans.sample_list import SampleList
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.shards.index import kinds
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.survey.content import Equals
from tercet.data_pipelines.survey.tally import Tally
from tercet.data_pipelines.survey.traits import Surveyor
from tercet.data_pipelines.survey.walk import parts_of, walk
from tercet.data_pipelines.survey.wording import templates
from tercet.errors import UserError

HEARD = 10_000  # sounds that are decoded for their loudness
LISTED = 20  # most frequent words, templates, …
LARGEST = 5  # groups that are named


@dataclass(frozen=True)
class SampleLocation:
    shard: str
    key: str


@dataclass(frozen=True)
class Sharing:
    """How many samples share something: `sizes` counts groups by their samples, `largest` names one of each."""

    sizes: Counter[int]
    largest: list[tuple[int, SampleLocation]]

    @property
    def groups(self) -> int:
        return self.sizes.total()

    @property
    def samples(self) -> int:
        return sum(size * count for size, count in self.sizes.items())

    def to_json(self) -> dict[str, Any]:
        largest = [{"samples": size, **asdict(place)} for size, place in self.largest]
        sizes = {str(size): self.sizes[size] for size in sorted(self.sizes)}
        return {"groups": self.groups, "samples": self.samples, "sizes": sizes, "largest": largest}


@dataclass(frozen=True)
class Stats:
    shards: int
    samples: int  # all; the tally counts those that were read
    tally: Tally
    shared: dict[str, Sharing]  # by what is shared: image, audio, text or group
    listed_by: SampleList | None = None  # if it is given, only its samples were read

    def listed(self, name: str, most: int = LISTED) -> list[tuple[str, int]]:
        counts = self.tally.counts.get(name)
        return counts.most_common(most) if counts else []

    def repeated_captions(self) -> list[tuple[str, int]]:
        return [(caption, count) for caption, count in self.listed("text.caption") if count > 1]

    def templates(self) -> list[tuple[str, int]]:
        return templates(self.tally.captions, LISTED)

    def lacking(self) -> list[tuple[str, int]]:
        """Samples without a picture, a sound, …, of what some samples have."""
        return [(kind, self.tally.samples - count) for kind, count in self.listed("holds", len(kinds()))]

    def to_json(self) -> dict[str, Any]:
        counted = {name: dict(self.listed(name)) for name in sorted(self.tally.counts) if name != "text.caption"}
        return {
            "shards": self.shards,
            "samples": self.samples,
            **({"list": self.listed_by.to_json()} if self.listed_by else {}),
            "surveyed": self.tally.samples,
            "lacking": dict(self.lacking()),
            "values": {name: self.tally.values[name].to_json() for name in sorted(self.tally.values)},
            "counts": counted,
            "captions": dict(self.repeated_captions()),
            "templates": dict(self.templates()),
            "shared": {name: sharing.to_json() for name, sharing in sorted(self.shared.items())},
        }


def survey(source: Source, workers: int, sample: int | None = None, listed: SampleList | None = None) -> Stats:
    """Reads all samples, or those of a list, or `sample` of them."""
    ids = _drawn(len(source) if listed is None else listed.kept, sample)
    if listed is not None:
        ids = np.flatnonzero(listed.times_N)[ids].tolist()
    heard = min(2**64, 2**64 * HEARD // len(ids))
    tally, equals = Tally(), dict[str, Equals]()
    for part in walk(Surveyor(source, heard), parts_of(ids), workers, "reading samples"):
        tally.merge(part.tally)
        for name, hashed in part.hashes.items():
            equals.setdefault(name, Equals()).add(*hashed)
    shared = {name: _sharing(source, equal) for name, equal in equals.items()}
    return Stats(len(source.counts), len(source), tally, shared, listed)


def _drawn(count: int, sample: int | None) -> Sequence[int]:
    if sample is None or sample >= count:
        return range(count)
    if sample < 1:
        raise UserError(f"--sample {sample} is too few; give at least 1, or leave it out for all samples")
    drawn: list[int] = np.sort(keyed("survey", 0).choice(count, sample, replace=False, shuffle=False)).tolist()
    return drawn


def _sharing(source: Source, equals: Equals) -> Sharing:
    sizes: Counter[int] = Counter()
    largest: list[tuple[int, int]] = []  # how many, and the first one's id
    for ids in equals.groups():
        sizes[len(ids)] += 1
        largest = sorted([*largest, (len(ids), int(ids[0]))], key=lambda group: (-group[0], group[1]))[:LARGEST]
    return Sharing(sizes, [(size, SampleLocation(source.shard(id), source.key(id))) for size, id in largest])
