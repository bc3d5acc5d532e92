"""Indexes on disk: reused, rebuilt when the shard changes, and written atomically by several processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tercet.data_pipelines.shards.build import index_shard, index_shards
from tercet.data_pipelines.shards.index import ShardIndex, arrange
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.record import Record, find_record, load_census, load_index
from tercet.data_pipelines.shards.tar import Member, members
from tercet.data_pipelines.shards.write import write_shard
from tercet.errors import UserError
from tests.data_pipelines.tars import good, write_tar

Pack = Callable[..., Path]


def record_of(shard: Path) -> Record:
    record = index_shard(str(shard))
    assert isinstance(record, Record)
    return record


def same(one: ShardIndex, other: ShardIndex) -> bool:
    arrays = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(a is b or (a is not None and a.dtype == b.dtype and np.array_equal(a, b)) for a, b in arrays)


def small(folder: Path, count: int = 3) -> list[str]:
    shards = [folder / f"{n:03d}.tar" for n in range(count)]
    for n, shard in enumerate(shards):
        write_tar(shard, {f"{n}-{i}.txt": b"t" * (i * 300) for i in range(9)})
    return [str(shard) for shard in shards]


def test_a_saved_index_equals_the_scan(pack: Pack) -> None:
    shard = pack("s.tar", [{"__key__": f"k{i}", "txt": "t" * i, "png": b"p" * 700, "pyd": b"0"} for i in range(70)])
    index, census = arrange(members(str(shard)))
    record = record_of(shard)
    assert same(load_index(record), index)
    assert load_census(record) == census
    assert (record.size, record.samples, record.checksums) == (shard.stat().st_size, 70, False)
    with safe_open(record.place, "np") as file:  # as anybody else reads it
        assert sorted(file.keys()) == ["code_M", "first", "key_K", "key_first", "offset_M", "size_M"]
        assert file.get_tensor("size_M").tolist() == index.size_M.tolist()


def test_an_index_written_with_its_shard_equals_a_scan(tmp_path: Path) -> None:
    samples = [{"__key__": f"ü/{'long' * i}/{i}", "txt": "t" * (512 * i), "png": b"p" * 700} for i in range(40)]
    written = write_shard(tmp_path / "s.tar", samples)
    index = load_index(written)
    os.unlink(written.place)
    scanned = index_shard(str(tmp_path / "s.tar"), checksums=True)
    assert isinstance(scanned, Record)
    assert same(load_index(scanned), index)
    assert scanned.fingerprint == written.fingerprint
    assert [files["txt"] for files in good(open_shards(str(tmp_path)))] == [bytes(s["txt"], "ascii") for s in samples]


def test_a_shard_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = small(tmp_path)
    first = open_shards(shards)
    monkeypatch.setattr("tercet.data_pipelines.shards.build.members", None)
    second = open_shards(shards)
    assert good(first) == good(second)
    assert first.fingerprint == second.fingerprint


def test_an_overwritten_shard_is_indexed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = small(tmp_path)
    before = open_shards(shards)
    for size in (5000, 5001):  # a shard of another size, then one of the same
        write_tar(Path(shards[1]), {"new.txt": b"n" * size})
        after = open_shards(shards)
        assert (len(before), len(after)) == (27, 19)
        assert after.read([9], {"txt"}) == [{"txt": b"n" * size}]
        assert f"{shards[1]}: changed since the last index" in capsys.readouterr().err
        assert after.fingerprint != before.fingerprint
    written = os.stat(record_of(Path(shards[1])).place).st_ino
    os.utime(shards[1])  # another time, and the same bytes
    assert os.stat(record_of(Path(shards[1])).place).st_ino == written
    assert "changed" not in capsys.readouterr().err


def test_a_shard_replaced_by_an_older_one_is_indexed_again(tmp_path: Path) -> None:
    older = write_tar(tmp_path / "older", {"a.txt": b"1", "b.txt": b"2"})
    os.utime(older, (1e9, 1e9))
    shard = write_tar(tmp_path / "s.tar", {"c.txt": b"3", "d.txt": b"4"})
    assert open_shards(str(shard)).key(0) == "c"
    assert older.stat().st_size == shard.stat().st_size
    os.replace(older, shard)
    assert open_shards(str(shard)).key(0) == "a"


def test_a_link_changed_to_an_older_shard_is_indexed_again(tmp_path: Path) -> None:
    older = write_tar(tmp_path / "older", {"a.txt": b"1", "b.txt": b"2"})
    newer = write_tar(tmp_path / "newer", {"c.txt": b"3", "d.txt": b"4"})
    link = tmp_path / "s.tar"
    for target, key in ((newer, "c"), (older, "a")):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert open_shards(str(link)).key(0) == key


def test_a_full_disk_leaves_no_partial_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = small(tmp_path, 1)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[:40])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="can be written neither beside it nor to"):
        open_shards(shard)
    assert list((tmp_path / ".index").iterdir()) == []


def test_a_shard_replaced_during_the_scan_does_not_get_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = small(tmp_path, 1)

    def replaced_meanwhile(path: str) -> list[Member]:
        found = members(path)
        write_tar(Path(path), {"new.txt": b"n" * 10_000})
        return found

    with monkeypatch.context() as scanning:
        scanning.setattr("tercet.data_pipelines.shards.build.members", replaced_meanwhile)
        with pytest.raises(UserError, match="it changed while it was read"):
            open_shards(shard)
    assert open_shards(shard).key(0) == "new"


def test_a_touched_shard_is_compared_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = small(tmp_path, 1)
    record = record_of(Path(shard))
    os.utime(record.place, (1e9, 1e9))
    assert find_record(shard)
    monkeypatch.setattr("tercet.data_pipelines.shards.record.fingerprint", None)
    assert find_record(shard)


def test_checksums_are_added_on_request(tmp_path: Path) -> None:
    shards = small(tmp_path)
    assert not any(record.checksums for record in open_shards(shards).records)
    assert all(record.checksums for record in open_shards(shards, checksums=True).records)
    assert all(record.checksums for record in open_shards(shards).records)


def test_read_only_data_are_indexed_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, data = tmp_path / "cache", tmp_path / "data"
    data.mkdir()
    shards = small(data)
    monkeypatch.setenv("TERCET_CACHE", str(cache))
    (data / ".index").write_text("in the way, whoever the user is")
    opened = open_shards(shards)
    assert len(opened) == 27
    assert {Path(record.place).parent for record in opened.records} == {cache / "index"}
    monkeypatch.setattr("tercet.data_pipelines.shards.build.members", None)
    assert good(open_shards(shards)) == good(opened)


@pytest.mark.parametrize("harm", [b"", b"\xff" * 64, None], ids=["empty", "no safetensors", "cut short"])
def test_a_broken_index_is_rebuilt(tmp_path: Path, harm: bytes | None) -> None:
    (shard,) = small(tmp_path, 1)
    place = Path(record_of(Path(shard)).place)
    whole = place.read_bytes()
    place.write_bytes(whole[:-9] if harm is None else harm)
    assert find_record(shard) is None
    assert good(open_shards(shard))
    assert place.read_bytes() == whole


def test_very_long_names_and_headers_are_read_back(tmp_path: Path) -> None:
    names = {f"{i}.{'x' * 200}{i}": b"" for i in range(100)}  # a hundred kinds of files to be passed over
    shard = write_tar(tmp_path / "s.tar", {**names, f"{'d' * 9000}/k.txt": b"t"}, 2)
    assert len(load_census(record_of(shard)).passed_over) == 100
    assert find_record(str(shard)) is not None
    assert open_shards(str(shard)).key(0) == f"{'d' * 9000}/k"


PROGRAM = """
import sys
from tercet.data_pipelines.shards.read import open_shards
if __name__ == "__main__":
    print(open_shards(sys.argv[1]).fingerprint)
"""


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def test_ranks_may_open_shards_at_the_same_time(tmp_path: Path) -> None:
    shards = small(tmp_path, 40)
    ranks = [start(tmp_path, RANK=str(rank), WORLD_SIZE="3", LOCAL_WORLD_SIZE="3") for rank in range(3)]
    fingerprints = {rank.communicate()[0].strip() for rank in ranks}
    assert [rank.returncode for rank in ranks] == [0, 0, 0]
    assert fingerprints == {open_shards(shards).fingerprint}
    assert sorted(path.name for path in (tmp_path / ".index").iterdir()) == [
        f"{n:03d}.tar.safetensors" for n in range(40)
    ]


def test_killed_indexing_resumes(tmp_path: Path) -> None:
    shards = small(tmp_path, 60)
    for seconds in (0.0, 0.01, 0.02):
        indexing = start(tmp_path)
        while not (tmp_path / ".index").exists() and indexing.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds)
        indexing.send_signal(signal.SIGKILL)
        indexing.communicate()
    standing = {shard: os.stat(record.place).st_ino for shard in shards if (record := find_record(shard))}
    opened = open_shards(shards)
    assert len(good(opened)) == 60 * 9
    assert standing.items() <= {record.shard: os.stat(record.place).st_ino for record in opened.records}.items()


UNGUARDED = """
import sys
from tercet.data_pipelines.shards.build import index_shards
print(len(index_shards(sys.argv[1:], workers=2)))
"""


def test_a_script_indexes_at_its_top_level(tmp_path: Path) -> None:
    """Worker processes must not run the script again."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, str(tmp_path / "script.py"), *small(tmp_path, 20)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "20\n"


def test_many_shards_are_indexed_by_several_processes(tmp_path: Path) -> None:
    shards = small(tmp_path, 20)
    found = index_shards(shards, workers=2)
    alone = [arrange(members(shard))[0] for shard in shards]
    assert all(same(load_index(record), index) for record, index in zip(found, alone, strict=True))  # type: ignore[arg-type]
