"""Opening a large dataset reads only the headers of its indexes. The shards here are sparse files with real headers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.data_pipelines.shards.index import arrange
from tercet.data_pipelines.shards.record import save_record
from tercet.data_pipelines.shards.tar import Member

PER_SHARD = 10_000
MOST_MEMORY = 100e6
MOST_OF_AN_INDEX = 5000  # bytes that opening may read of each

PROGRAM = """
import json, sys
import psutil
from tercet.data_pipelines.shards.read import open_shards

process = psutil.Process()
memory, read = process.memory_full_info().uss, process.io_counters().read_chars
shards = open_shards(sys.argv[1])
read = process.io_counters().read_chars - read
for id in range(0, min(len(shards), 1_000_000), 10_000):
    shards.key(id)
memory = process.memory_full_info().uss - memory
print(json.dumps({"samples": len(shards), "read": read, "memory": memory}))
"""


def files() -> Iterator[Member]:
    """A header and a picture of 28 KB, and a header and a caption, for each sample."""
    at = 0
    for i in range(PER_SHARD):
        for extension, size in ((b"jpg", 28_000), (b"txt", 60)):
            yield Member(b"%09d.%s" % (i, extension), at + 512, size)
            at += 512 + -(-size // 512) * 512


def hole(path: Path, size: int, head: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def hollow(folder: Path, shards: int) -> None:
    listed = list(files())
    hole(folder / "00000.tar", size := listed[-1].offset + 1536)
    index = Path(save_record(str(folder / "00000.tar"), *arrange(listed)).place).read_bytes()
    head = index[: 8 + int.from_bytes(index[:8], "little")]
    for n in range(1, shards):
        hole(folder / f"{n:05d}.tar", size)
        hole(folder / f".index/{n:05d}.tar.safetensors", len(index), head)
    assert len(index) > 20 * MOST_OF_AN_INDEX


@pytest.mark.parametrize("shards", [100, pytest.param(40_000, marks=pytest.mark.long)])
def test_opening_reads_only_headers_and_takes_little_memory(tmp_path: Path, shards: int) -> None:
    """At the end, the indexes of 100 shards with a million samples are open."""
    hollow(tmp_path, shards)
    measured = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM, str(tmp_path)]))
    shutil.rmtree(tmp_path)
    assert measured["samples"] == shards * PER_SHARD
    assert measured["read"] < shards * MOST_OF_AN_INDEX
    assert measured["memory"] < MOST_MEMORY
