"""Which rows go into which shard: decided once from the manifest and the sizes of its files, before any is read.

A shard is then a function of its rows alone, so that interrupted packing resumes with the shards that are missing.
"""

import json
import os
from bisect import bisect_right
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome
from tercet.data_pipelines.manifests.manifest import Manifest, check_files
from tercet.data_pipelines.manifests.medium import Medium, Span, named
from tercet.data_pipelines.pack.config import PackConfig
from tercet.errors import UserError

MEGABYTE = 10**6


@dataclass(frozen=True)
class PackPlan:
    """Where the shards begin among the rows, and what they are made of and how."""

    source: dict[str, Any]
    settings: dict[str, Any]
    starts: tuple[int, ...]

    @property
    def rows(self) -> int:
        return int(self.source["rows"])

    def count(self, shard: int) -> int:
        """How many rows the shard is made of."""
        stop = self.starts[shard + 1] if shard + 1 < len(self.starts) else self.rows
        return stop - self.starts[shard]

    def shard(self, position: int) -> int:
        return bisect_right(self.starts, position) - 1

    def to_json(self) -> dict[str, Any]:
        """As it reads back from a file."""
        return dict(json.loads(json.dumps(asdict(self))))


def plan_shards(path: Path, manifest: Manifest, config: PackConfig) -> PackPlan:
    check_files(manifest)
    digest = blake2b(digest_size=16)
    most = config.shard_samples or config.shard_mb * MEGABYTE
    starts, filled, row = [0], 0, 0
    for row, entry in enumerate(manifest.entries(), start=1):
        sizes = _sizes(entry)
        digest.update(_fingerprint(entry, sizes))
        weight = len(sizes[:1]) if config.shard_samples else sum(sizes)
        if filled and filled + weight > most:
            starts.append(row - 1)
            filled = 0
        filled += weight
    if not row:
        raise UserError(f"{path} contains no rows to pack")
    source = {
        "path": str(path),
        "columns": {role: column for role, column in asdict(manifest.roles).items() if column},
        "rows": row,
        "digest": digest.hexdigest(),
        "passed_over": dict(sorted(manifest.passed_over.items())),
    }
    return PackPlan(source, config.model_dump(mode="json", exclude={"max_bad"}), tuple(starts))


def _sizes(entry: Outcome) -> list[int]:
    return [_size(entry.root, medium) for medium in entry.names.values()] if isinstance(entry, Entry) else []


def _size(root: Path, medium: Medium) -> int:
    if isinstance(medium, str):
        return os.path.getsize(root / medium) if os.path.isfile(root / medium) else 0
    return medium.size if isinstance(medium, Span) else len(medium)


def _fingerprint(entry: Outcome, sizes: list[int]) -> bytes:
    """Everything that the sample is made of, without the place of the data."""
    if isinstance(entry, LeftOut):
        return json.dumps([entry, sizes]).encode()
    names = {kind: named(medium) for kind, medium in entry.names.items()}
    return json.dumps([(entry.row, entry.key, names, entry.captions, entry.meta), sizes]).encode()
