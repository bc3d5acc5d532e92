"""A plan: everything that decides which samples share a batch. It is a small immutable file, named by its digest.

A checkpoint names its plan. The data and lists of a plan never change. If weights change, a new plan continues from the
position of each source.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from tercet.errors import UserError
from tercet.whole_file import write_json


@dataclass(frozen=True)
class SourceShare:
    """One source in a plan: the samples of its epoch, and its weight."""

    name: str
    weight: float
    repeat: bool
    samples: int
    fingerprint: str
    order: str = ""  # the digest of its list, if it has one
    neighbors: str = ""  # of its neighbour graph with its options, and the number of its samples in a batch
    clusters: str = ""  # of its column of clusters, in the same way
    fields: str = ""  # of the neighbour graphs whose captions fields have


@dataclass(frozen=True)
class Plan:
    """The order of samples is a function of the plan and of a position in each source."""

    seed: int
    streams: int
    window: int
    mix: str
    shares: tuple[SourceShare, ...]

    @property
    def samples(self) -> int:
        return sum(share.samples for share in self.shares)

    @property
    def digest(self) -> str:
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def write(self, folder: Path) -> Path:
        """Writes the plan to `folder` atomically, unless it is there."""
        path = folder / f"{self.digest}.json"
        if not path.exists():
            write_json(path, asdict(self))
        return path

    def follows(self, earlier: "Plan", resumed: Collection[str]) -> None:
        """Refuses to resume sources whose data, list, neighbours or clusters changed since an earlier plan."""
        for now in self.shares:
            for before in earlier.shares:
                if now.name != before.name or now.name not in resumed:
                    continue
                if now.fingerprint != before.fingerprint:
                    raise UserError(
                        f"the data of `{now.name}` changed since the last checkpoint ({before.samples:,} samples then, "
                        f"{now.samples:,} now): bring back the shards, or start afresh with out=…"
                    )
                if now.order != before.order:
                    raise UserError(
                        f"the list of `{now.name}` changed since the last checkpoint ({before.samples:,} samples an "
                        f"epoch then, {now.samples:,} now): bring back the file, or start afresh with out=…"
                    )
                if (now.neighbors, now.clusters) != (before.neighbors, before.clusters):
                    what = "clusters" if now.clusters or before.clusters else "neighbors"
                    raise UserError(
                        f"data.train.{now.name}.{what} changed since the last checkpoint: the files, the options, or "
                        "how many samples of this source a batch has. Change this back, or start afresh with out=…"
                    )

    def check_fields(self, earlier: "Plan") -> None:
        """Refuses other neighbour graphs of fields than an earlier plan of the same fields had."""
        before = {share.fingerprint: share.fields for share in earlier.shares}
        for now in self.shares:
            if before.get(now.fingerprint, now.fields) != now.fields:
                raise UserError(
                    f"a neighbour graph that `fields` read for `{now.name}` changed since the last checkpoint: bring "
                    "back the files, or start afresh with out=…"
                )


def read_plan(folder: Path, digest: str) -> Plan:
    path = folder / f"{digest}.json"
    if not path.is_file():
        raise UserError(
            f"the checkpoint names the plan {path}, which is missing. Restore it, or start a new run with out=…"
        )
    values = json.loads(path.read_text(encoding="utf-8"))
    return Plan(**values | {"shares": tuple(SourceShare(**share) for share in values["shares"])})
