"""The index of a shard on disk: one safetensors file, written atomically.

It is in a hidden folder beside the data, or in the user's cache if the data are read-only. Its header alone says
whether the index fits the shard, and how many samples there are.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save

from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.shards.fingerprint import fingerprint
from tercet.data_pipelines.shards.index import Census, ShardIndex
from tercet.errors import UserError
from tercet.modality import DECODERS
from tercet.system import BINARY, pread
from tercet.whole_file import write_whole

EDITION = 3  # raise it whenever EXTENSIONS or the arrays change their meaning
FOLDER = ".index"
FACTS = "shard"  # one entry of the metadata: the order of several would differ from file to file
USUAL_HEADER, LARGEST_HEADER = 4096, 2**24


@dataclass(frozen=True, eq=False)
class Record:
    """A shard and the path of its index."""

    shard: str
    place: str
    size: int
    samples: int
    fingerprint: str
    checksums: bool
    written: int  # when, in nanoseconds


def places(shard: str) -> Iterator[str]:
    """Possible paths of the index: beside the shard, or in the cache. Plugins that add files change its name."""
    path = os.path.abspath(shard)
    folder, name = os.path.split(path)
    ending = ".".join(["", *DECODERS, "safetensors"])
    yield os.path.join(folder, FOLDER, f"{name}{ending}")
    digest = blake2b(os.fsencode(path), digest_size=16).hexdigest()
    yield str(cache_folder() / "index" / f"{digest}{ending}")


def find_record(shard: str) -> Record | None:
    """The record that fits the shard now. A shard that is newer than its index is compared by its fingerprint."""
    # Copying and moving set this time, too, whatever modification time they keep. A link may point to an older shard.
    touched = max(os.stat(shard).st_ctime_ns, os.lstat(shard).st_ctime_ns)
    for record in records_of_equal_size(shard):
        if record.written > touched:
            return record
        if record.fingerprint == fingerprint(shard):
            with suppress(OSError):
                os.utime(record.place)  # it need not be compared again
            return record
    return None


def records_of_equal_size(shard: str) -> Iterator[Record]:
    """The records of a shard of this size."""
    size = os.stat(shard).st_size
    for place in places(shard):
        facts = _read_facts(place)
        if facts and facts["size"] == size:
            yield _record(shard, place, facts)


def save_record(shard: str, index: ShardIndex, census: Census) -> Record:
    """Writes the index beside the shard or, if that fails, into the cache."""
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
            return _record(shard, place, {**facts, "written": os.stat(place).st_mtime_ns})
    raise UserError(
        f"the index of {shard} can be written neither beside it nor to {cache_folder()}; "
        "set TERCET_CACHE to a writable folder"
    )


def load_index(record: Record) -> ShardIndex:
    return ShardIndex(**load_file(record.place))


def load_census(record: Record) -> Census:
    facts = _read_facts(record.place)
    assert facts is not None
    return Census(**facts["census"])


def _read_facts(place: str) -> dict[str, Any] | None:
    """The facts in the header, and when the file was written; None without a complete index of this edition."""
    try:
        descriptor = os.open(place, BINARY)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        head = _head(descriptor)
    finally:
        os.close(descriptor)
    try:
        tensors = json.loads(head)
        facts: dict[str, Any] = json.loads(tensors.pop("__metadata__")[FACTS])
        end = 8 + len(head) + max(tensor["data_offsets"][1] for tensor in tensors.values())
    except (ValueError, KeyError, TypeError, AttributeError):  # it may be any JSON
        return None
    complete = facts.get("edition") == EDITION and end == status.st_size
    return {**facts, "written": status.st_mtime_ns} if complete else None


def _head(descriptor: int) -> bytes:
    """The header of a safetensors file: its length in eight bytes, then JSON."""
    block = pread(descriptor, USUAL_HEADER, 0)
    length = int.from_bytes(block[:8], "little")
    if length > USUAL_HEADER - 8:
        return pread(descriptor, min(length, LARGEST_HEADER), 8)
    return block[8 : 8 + length]


def _record(shard: str, place: str, facts: dict[str, Any]) -> Record:
    names = ("size", "samples", "fingerprint", "checksums", "written")
    return Record(shard, place, **{name: facts[name] for name in names})


def _written(path: Path, data: bytes) -> bool:
    """Whether the file could be written."""
    try:
        write_whole(path, data)
    except OSError:
        return False
    return True
