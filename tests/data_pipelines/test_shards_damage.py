"""Nine kinds of damage to a shard: each is found, its shard is named, and intact samples are still read."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.build import index_shards
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.shards.tar import DamagedShard
from tercet.data_pipelines.shards.write import write_shard
from tercet.errors import UserError
from tests.data_pipelines.tars import good

SHARDS, SAMPLES, VICTIM = 5, 5, 2
Damage = Callable[[bytes, list[int]], bytes]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]


DAMAGES: dict[str, Damage] = {
    "cut at a member boundary": lambda data, headers: data[: headers[4]],
    "cut between picture and caption": lambda data, headers: data[: headers[5]],
    "cut inside a header": lambda data, headers: data[: headers[4] + 100],
    "cut inside the size in a header": lambda data, headers: data[: headers[4] + 128],
    "cut inside a payload": lambda data, headers: data[: headers[4] + 600],
    "cut before the end mark": lambda data, headers: data[: headers[-1] + 1024],
    "a flipped byte in a name": lambda data, headers: flipped(data, headers[4]),
    "a flipped byte in a size": lambda data, headers: flipped(data, headers[4] + 130),
    "a stray block of zeros": lambda data, headers: data[: headers[4]] + bytes(512) + data[headers[4] :],
    "empty": lambda data, headers: b"",
    "a page": lambda data, headers: b"<html>" + b"not found " * 500,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shard in range(SHARDS):
        samples = ({"__key__": f"{shard}-{i}", "png": bytes([65 + i]) * 700, "txt": f"{shard}"} for i in range(SAMPLES))
        write_shard(tmp_path / f"{shard}.tar", samples)
    return tmp_path


def spoil(folder: Path, damage: Damage) -> str:
    path = folder / f"{VICTIM}.tar"
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    path.write_bytes(damage(path.read_bytes(), headers))
    return str(path)


def forget(folder: Path) -> None:
    for path in (folder / ".index").iterdir():
        path.unlink()


@pytest.mark.parametrize("known", [True, False], ids=["indexed before", "not indexed before"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_the_others_are_read(
    folder: Path, damage: str, known: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if not known:
        forget(folder)
    shard = spoil(folder, DAMAGES[damage])
    with pytest.raises(UserError, match=rf"{VICTIM}\.tar is damaged"):
        open_shards(str(folder))
    with pytest.raises(UserError, match=rf"{VICTIM}\.tar is damaged"):  # 20 % of the shards are more than 1 %
        open_shards(str(folder), missing="skip")
    shards = open_shards(str(folder), missing="skip", max_bad=0.2)
    keys = [shards.key(id) for id in range(len(shards))]
    assert keys == [f"{n}-{i}" for n in range(SHARDS) for i in range(SAMPLES) if n != VICTIM]
    assert [files["txt"] for files in good(shards)] == [key[0].encode() for key in keys]
    assert f"skipped: shard {shard} is damaged" in capsys.readouterr().err
    assert [each.shard for each in index_shards([shard]) if isinstance(each, DamagedShard)] == [shard]


@pytest.mark.parametrize("fresh", [True, False], ids=["and a new time", "and the old time"])
def test_a_flipped_byte_in_a_payload_makes_only_its_sample_bad(folder: Path, fresh: bool) -> None:
    path = folder / f"{VICTIM}.tar"
    written = path.stat().st_mtime_ns
    spoil(folder, lambda data, headers: flipped(data, headers[4] + 700))
    if not fresh:
        os.utime(path, ns=(written, written))
    for shards in (open_shards(str(folder)), open_shards(str(folder))):
        found = shards.read(range(len(shards)), {"png", "txt"})
        bad = {id: str(each) for id, each in enumerate(found) if isinstance(each, BadSample)}
        assert bad == {VICTIM * SAMPLES + 2: "payload does not match its checksum"}
        assert shards.key(VICTIM * SAMPLES + 2) == f"{VICTIM}-2"
        assert len(found) == SHARDS * SAMPLES


def test_damage_in_an_unused_file_is_ignored(folder: Path) -> None:
    spoil(folder, lambda data, headers: flipped(data, headers[4] + 700))
    found = open_shards(str(folder)).read(range(SHARDS * SAMPLES), {"txt"})
    assert not any(isinstance(files, BadSample) for files in found)


def reasons(shards: Shards) -> list[str | None]:
    found = shards.read(range(len(shards)), {"png", "txt"})
    return [str(each) if isinstance(each, BadSample) else None for each in found]


def test_a_shard_truncated_while_reading_gives_its_remaining_samples(folder: Path) -> None:
    shards = open_shards(str(folder))
    assert reasons(shards) == [None] * SHARDS * SAMPLES
    os.truncate(folder / f"{VICTIM}.tar", 4 * 512 * 4)  # each sample: header, 2 blocks, header, 1 block
    cut = [None] * 3 + ["shard: shorter than its index"] * 2
    assert reasons(shards) == [None] * 10 + cut + [None] * 10


def test_a_shard_that_changes_between_opening_and_reading_is_not_read(folder: Path) -> None:
    forget(folder)
    shards = open_shards(str(folder))  # an index without checksums
    spoil(folder, lambda data, headers: flipped(data, headers[4] + 700))
    assert reasons(shards) == [None] * 10 + ["shard: changed since it was indexed"] * 5 + [None] * 10
    assert shards.key(VICTIM * SAMPLES) == "#0"


def test_a_deleted_shard_is_named(folder: Path) -> None:
    shards = open_shards(str(folder))
    (folder / f"{VICTIM}.tar").unlink()
    assert reasons(shards) == [None] * 10 + ["shard: cannot be opened"] * 5 + [None] * 10
    assert shards.shard(VICTIM * SAMPLES) == str(folder / f"{VICTIM}.tar")
