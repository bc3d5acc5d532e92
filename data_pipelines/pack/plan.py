"""Which rows go into which shard: decided once from the manifest and the sizes of its files, before any is read.

A shard is then a function of its rows alone, so that an interrupted packing goes on with the shards that are missing.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.manifests.table import ENOUGH
from tercet.data_pipelines.pack.config import PackConfig
from tercet.errors import UserError

MEGABYTE = 10**6


@dataclass(frozen=True)
class Plan:
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


def plan_shards(path: Path, manifest: Manifest, config: PackConfig) -> Plan:
    _check_files(manifest)
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
        raise UserError(f"{path} holds no rows to pack")
    source = {
        "path": str(path),
        "columns": {role: column for role, column in asdict(manifest.roles).items() if column},
        "rows": row,
        "digest": digest.hexdigest(),
        "passed_over": dict(sorted(manifest.passed_over.items())),
    }
    return Plan(source, config.model_dump(mode="json", exclude={"max_bad"}), tuple(starts))


def _check_files(manifest: Manifest) -> None:
    """One look before a long run that could only leave everything out."""
    paths = [path for entry in islice(manifest.entries(), ENOUGH) for path in _paths(entry)]
    if paths and not any(map(os.path.isfile, paths)):
        raise UserError(
            f"none of the first {len(paths)} files is there, beginning with {paths[0]}; "
            "paths in a table are taken relative to its folder"
        )


def _paths(entry: Outcome) -> Iterator[Path]:
    if isinstance(entry, Entry):
        yield from (entry.root / name for name in entry.names.values())


def _sizes(entry: Outcome) -> list[int]:
    return [os.path.getsize(path) if os.path.isfile(path) else 0 for path in _paths(entry)]


def _fingerprint(entry: Outcome, sizes: list[int]) -> bytes:
    """What the sample will be made of, wherever it lies."""
    told = entry if isinstance(entry, LeftOut) else (entry.row, entry.key, entry.names, entry.captions, entry.meta)
    return json.dumps([told, sizes]).encode()
