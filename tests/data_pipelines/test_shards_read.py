import os
import pickle
import random
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards import open as opened
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.source import Source

WANTED = {"jpg", "txt"}


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """Seven shards of 1 to 31 samples. Some samples lack a picture, and each has a file that is not used."""
    for shard in range(7):
        write_shard(tmp_path / f"{shard}.tar", [sample(shard, i) for i in range(5 * shard + 1)])
    return open_shards(str(tmp_path))


def sample(shard: int, i: int) -> dict[str, str | bytes]:
    picture = {} if i % 4 == 3 else {"jpg": np.random.default_rng((shard, i)).bytes(300 + 97 * i)}
    return {"__key__": f"{shard}/{i:04d}", "txt": f"caption {shard} {i}", "json": "{}", **picture}


def by_tarfile(shards: Shards) -> list[tuple[str, dict[str, bytes]]]:
    """Keys and wanted files of all samples, shard by shard, read by the standard library."""
    found: dict[str, dict[str, bytes]] = {}
    for record in shards.records:
        with tarfile.open(record.shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                if extension in WANTED and file:
                    found.setdefault(key, {})[extension] = file.read()
    return list(found.items())


def test_samples_by_id_equal_those_of_tarfile(shards: Shards) -> None:
    expected = by_tarfile(shards)
    assert len(shards) == len(expected) == shards.counts.sum() == sum(range(1, 32, 5))
    dice = random.Random(0)
    for count in (1, 2, 16, 300):
        ids = dice.choices(range(len(shards)), k=count)
        assert shards.read(ids, WANTED) == [expected[id][1] for id in ids]
    assert [shards.key(id) for id in range(len(shards))] == [key for key, _ in expected]
    assert shards.read([], WANTED) == []
    assert shards.read([0], ()) == [{}]


def checked_as_a_source(source: Source) -> Source:
    return source


def test_pickled_shards_read_the_same(shards: Shards) -> None:
    source = checked_as_a_source(shards)
    expected = source.read(range(len(source)), WANTED)  # opens every shard
    assert len(pickle.dumps(source)) < 5000
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(source.read, (list(range(len(source))), WANTED)) == expected
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint == source.fingerprint
    assert again.read([3], WANTED) == expected[3:4]


def test_many_threads_read_the_same_with_few_open_shards(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = shards.read(range(len(shards)), WANTED)
    monkeypatch.setattr(opened, "OPEN_SHARDS", 2)
    narrow = pickle.loads(pickle.dumps(shards))

    def some(seed: int) -> bool:
        ids = random.Random(seed).choices(range(len(narrow)), k=400)
        return bool(narrow.read(ids, WANTED) == [expected[id] for id in ids])

    before = descriptors()
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(some, range(24)))
    assert descriptors() <= before + 2


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_open_shards_stay_below_the_limit_of_file_descriptors(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 100))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append(limit))
    few = pickle.loads(pickle.dumps(shards))
    few.read(range(len(few)), WANTED)
    assert limits == [(100, 100)]
    assert few._open.cache_parameters()["maxsize"] == 25


def test_a_file_that_is_too_large_is_not_read(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LARGEST_FILE", 1000)
    found = shards.read(range(len(shards)), WANTED)
    large = [len(files.get("jpg", b"")) > 1000 for _, files in by_tarfile(shards)]
    assert 0 < sum(large) < len(large)
    assert [isinstance(files, BadSample) for files in found] == large
    assert {str(files) for files in found if isinstance(files, BadSample)} == {"file over the size cap"}
    assert not any(isinstance(files, BadSample) for files in shards.read(range(len(shards)), {"txt"}))


@pytest.mark.parametrize("name", ["a.pyd", "a.pickle", "a.pkl", "a.npy", "a.npz", "a.pth", "a.pt", "a.ten"])
def test_files_that_could_run_code_are_never_read(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for member in ("a.txt", name):
            info = tarfile.TarInfo(member)
            info.size = 3
            tar.addfile(info, BytesIO(b"abc"))
    shards = open_shards(str(tmp_path))
    assert shards.read([0], {"txt", name[2:]}) == [{"txt": b"abc"}]


def test_the_fingerprint_depends_on_content_order_and_names(shards: Shards, tmp_path: Path) -> None:
    paths = [record.shard for record in shards.records]
    assert open_shards(paths[:3]).fingerprint == Shards(shards.records[:3]).fingerprint != shards.fingerprint
    assert Shards(shards.records[::-1]).fingerprint != shards.fingerprint
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in paths:
        os.rename(path, moved / os.path.basename(path))
    assert open_shards(str(moved)).fingerprint == shards.fingerprint


def test_only_wanted_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [{"__key__": str(i), "jpg": bytes(28_000), "txt": "a caption"} for i in range(50)]
    write_shard(tmp_path / "s.tar", samples)
    shards, asked, pread = open_shards(str(tmp_path)), list[int](), os.pread

    def watched(descriptor: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return pread(descriptor, size, offset)

    shards.read([0], WANTED)
    monkeypatch.setattr("tercet.data_pipelines.shards.open.pread", watched)
    shards.read(range(50), {"txt"})
    assert asked == [9] * 50
