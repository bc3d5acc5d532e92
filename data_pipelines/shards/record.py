"""A shard's index on disk: one safetensors file, written whole or not at all.

It stands beside the data, in a hidden folder, or in the user's cache where the data are read-only. Its header alone
says what a data set needs to know before it reads: whether the index fits the shard, and how many samples there are.
"""

import json
import os
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors.numpy import load_file, save

from tercet.data_pipelines.shards.fingerprint import fingerprint
from tercet.data_pipelines.shards.index import Census, Index
from tercet.errors import UserError

EDITION = 1  # raise it whenever EXTENSIONS or the arrays come to mean something else
FOLDER = ".index"
FACTS = "shard"  # one entry of the metadata: the order of several would differ from file to file
USUAL_HEADER = 4096


@dataclass(frozen=True, eq=False)
class Record:
    """A shard, and where its index stands."""

    shard: str
    place: str
    size: int
    samples: int
    fingerprint: str
    checksums: bool


@dataclass(frozen=True)
class Header:
    """What the header of an index file says, and when the file was written."""

    facts: dict[str, Any]
    written: int

    def record(self, shard: str, place: str) -> Record:
        return Record(shard, place, *(self.facts[name] for name in ("size", "samples", "fingerprint", "checksums")))


def places(shard: str) -> tuple[str, str]:
    """Where the shard's index may stand: beside it, or in the cache."""
    path = os.path.abspath(shard)
    folder, name = os.path.split(path)
    digest = blake2b(os.fsencode(path), digest_size=16).hexdigest()
    return os.path.join(folder, FOLDER, f"{name}.safetensors"), str(_cache() / "index" / f"{digest}.safetensors")


def find_record(shard: str) -> Record | None:
    """The record that fits the shard as it is. A shard written after its index is compared by its fingerprint."""
    status = os.stat(shard)
    for place in places(shard):
        header = read_header(place)
        if header and header.facts["size"] == status.st_size:
            record = header.record(shard, place)
            if header.written > status.st_mtime_ns or record.fingerprint == fingerprint(shard):
                return record
    return None


def read_header(place: str) -> Header | None:
    """None where no whole index of this edition stands."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        head = os.pread(descriptor, USUAL_HEADER, 0)
        length = int.from_bytes(head[:8], "little")
        if 8 + length > USUAL_HEADER:
            head += os.pread(descriptor, min(8 + length, status.st_size) - USUAL_HEADER, USUAL_HEADER)
    finally:
        os.close(descriptor)
    try:
        tensors = json.loads(head[8 : 8 + length])
        facts = json.loads(tensors.pop("__metadata__")[FACTS])
        end = 8 + length + max(tensor["data_offsets"][1] for tensor in tensors.values())
    except (ValueError, KeyError):
        return None
    return Header(facts, status.st_mtime_ns) if facts.get("edition") == EDITION and end == status.st_size else None


def save_record(shard: str, index: Index, census: Census) -> Record:
    """Writes the index beside the shard, or where that cannot be, into the cache."""
    facts = {
        "edition": EDITION,
        "size": os.stat(shard).st_size,
        "samples": len(index),
        "fingerprint": fingerprint(shard),
        "checksums": index.checksum_M is not None,
        "census": asdict(census),
    }
    arrays = {name: array for name, array in vars(index).items() if array is not None}
    data = save(arrays, metadata={FACTS: json.dumps(facts)})
    for place in places(shard):
        if _written(Path(place), data):
            return Header(facts, 0).record(shard, place)
    raise UserError(
        f"the index of {shard} can be written neither beside it nor to {_cache()}; "
        "set TERCET_CACHE to a folder that can be written to"
    )


def load_index(record: Record) -> Index:
    return Index(**load_file(record.place))


def load_census(record: Record) -> Census:
    header = read_header(record.place)
    assert header is not None
    return Census(**header.facts["census"])


def _written(path: Path, data: bytes) -> bool:
    """Whether the file could be written."""
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")  # several ranks may write the same index
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError:
        return False
    return True


def _cache() -> Path:
    return Path(os.environ.get("TERCET_CACHE") or Path.home() / ".cache" / "tercet")
