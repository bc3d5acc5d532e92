import asyncio
import os
import time
from collections.abc import Iterator
from errno import ENOSPC
from multiprocessing import get_context
from pathlib import Path
from typing import ClassVar

import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import Callback
from fsspec.registry import _registry

from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.patience import Patience, Refused, Unreachable
from tercet.errors import UserError
from tests.data_pipelines.web import STALL, Web, serving

QUICK = Patience(tries=3, stall=1.5, pause=0.01)
BODY = os.urandom(300_000)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as web:
        yield web


def cache(folder: Path, limit_bytes: int = 10**9) -> Cache:
    return Cache(folder, limit_bytes, QUICK)


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


@pytest.mark.parametrize("faults", [[], ["503", "500"], ["429"], ["stalls"], ["cut short", "cut short"], ["no length"]])
def test_a_shard_is_fetched_completely_in_spite_of_network_errors(tmp_path: Path, web: Web, faults: list[str]) -> None:
    url = web.put("/s/00.tar", BODY, *faults)
    path = cache(tmp_path).fetch(url)
    assert path.read_bytes() == BODY
    assert web.asked["/s/00.tar"] == 1 + len([fault for fault in faults if fault != "no length"])
    assert cache(tmp_path).fetch(url) == path
    assert web.asked["/s/00.tar"] == 1 + len([fault for fault in faults if fault != "no length"])
    assert not unfinished(tmp_path)


def test_a_slow_shard_is_waited_for(tmp_path: Path, web: Web) -> None:
    assert cache(tmp_path).fetch(web.put("/slow.tar", BODY, "slow")).read_bytes() == BODY
    assert web.asked["/slow.tar"] == 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("503", "the server answers with status 503"),
        ("stalls", r"nothing came for 1\.5 s"),
        ("cut short", "in 3 tries: .+"),
    ],
)
def test_fetching_gives_up_after_some_tries(tmp_path: Path, web: Web, fault: str, why: str) -> None:
    url = web.put("/s.tar", BODY, *[fault] * 9).replace("//", "//me:secret@") + "?token=hidden"
    with pytest.raises(Unreachable, match=why) as error:
        cache(tmp_path).fetch(url)
    assert web.asked["/s.tar"] == 3
    assert f"{web.url}/s.tar could not be fetched in 3 tries" in str(error.value)
    assert "secret" not in str(error.value)
    assert "hidden" not in str(error.value)
    assert not unfinished(tmp_path)


@pytest.mark.parametrize(("status", "why"), [("404", "does not exist"), ("403", "is not open to us"), ("400", "400")])
def test_a_refusal_is_not_retried(tmp_path: Path, web: Web, status: str, why: str) -> None:
    url = web.put("/s.tar", BODY, status)
    with pytest.raises(Refused, match=why):
        cache(tmp_path).fetch(url)
    assert web.asked["/s.tar"] == 1


def test_a_closed_port_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="3 tries"):
        cache(tmp_path).fetch("http://127.0.0.1:9/s.tar")


def fetch(folder: Path, url: str) -> bytes:
    return cache(folder).fetch(url).read_bytes()


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_concurrent_processes_fetch_a_shard_once(tmp_path: Path, web: Web, start: str) -> None:
    cache(tmp_path).fetch(web.put("/other.tar", BODY))  # a fork must not lean on the connections of its parent
    url = web.put("/s.tar", BODY, "slow")
    with get_context(start).Pool(2) as pool:
        bodies = pool.starmap(fetch, [(tmp_path, url)] * 4, chunksize=1)
    assert bodies == [BODY] * 4
    assert web.asked["/s.tar"] == 1


def age(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_the_least_recently_used_shards_are_removed(tmp_path: Path, web: Web) -> None:
    few = cache(tmp_path, limit_bytes=1000)
    urls = [web.put(f"/{n}.tar", bytes([n]) * 300) for n in range(5)]
    copies = [age(few.fetch(url), 1000 - n) for n, url in enumerate(urls[:3])]
    few.fetch(urls[0])  # used again, so that 1 is the oldest
    opened = copies[1].open("rb")
    few.fetch(urls[3])
    assert [path.exists() for path in copies] == [True, False, True]
    assert opened.read() == b"\1" * 300
    assert few.fetch(urls[1]).read_bytes() == b"\1" * 300
    assert not copies[2].exists()
    assert web.asked["/1.tar"] == 2


def test_recently_fetched_shards_are_not_removed(tmp_path: Path, web: Web) -> None:
    few = cache(tmp_path, limit_bytes=1000)
    copies = [few.fetch(web.put(f"/{n}.tar", BODY[:400])) for n in range(4)]
    assert all(path.exists() for path in copies)
    age(copies[0], 61)
    age(copies[1], 59)
    few.fetch(web.put("/more.tar", BODY[:400]))
    assert [path.exists() for path in copies] == [False, True, True, True]


def test_files_of_killed_processes_are_removed(tmp_path: Path, web: Web) -> None:
    few = cache(tmp_path, limit_bytes=1000)
    few.fetch(web.put("/0.tar", BODY[:400]))
    left = few.place(web.put("/1.tar", BODY[:400])).with_suffix(".tar.part")
    left.write_bytes(BODY[:700])
    age(left, 100)
    few.fetch(web.put("/2.tar", BODY[:400]))
    assert not left.exists()


def test_a_shard_that_is_being_fetched_is_not_removed(tmp_path: Path, web: Web) -> None:
    few = cache(tmp_path, limit_bytes=1000)
    path = age(few.fetch(web.put("/0.tar", BODY[:800])), 100)
    with few.alone(path.name):
        few.fetch(web.put("/1.tar", BODY[:800]))
        assert path.exists()


@pytest.mark.parametrize("faults", [[], ["no length"]])
def test_a_limit_below_one_shard_is_refused(tmp_path: Path, web: Web, faults: list[str]) -> None:
    url = web.put("/big.tar", BODY, *faults)
    with pytest.raises(UserError, match=r"big\.tar is larger than the 0\.1 MB"):
        cache(tmp_path, limit_bytes=100_000).fetch(url)
    assert web.asked["/big.tar"] == 1
    assert not unfinished(tmp_path)


def test_urls_cannot_escape_the_cache_folder(tmp_path: Path) -> None:
    held = cache(tmp_path)
    urls = [
        "https://h/../../etc/passwd.tar",
        "https://h/%2e%2e%2fx.tar",
        "https://h/a\0b.tar",
        f"s3://b/{'x' * 999}.tar",
    ]
    places = [held.place(url) for url in urls]
    assert {place.resolve().parent for place in places} == {held.folder.resolve()}
    assert all(len(place.name) < 128 and place.suffix == ".tar" for place in places)
    assert held.place("https://h/a/0.tar") != held.place("https://h/b/0.tar")


def test_a_read_only_cache_folder_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="TERCET_CACHE"):
        cache(tmp_path / "file").fetch("http://127.0.0.1:9/s.tar")


def test_a_folder_behind_https_is_listed(web: Web) -> None:
    web.put("/data/", b'<a href="../">up</a><a href="01.tar">1</a><a href="00.tar">0</a><a href="00_stats.json">s</a>')
    assert find_shards(f"{web.url}/data/") == [f"{web.url}/data/00.tar", f"{web.url}/data/01.tar"]
    assert find_shards(f"{web.url}/data/0*.tar") == [f"{web.url}/data/00.tar", f"{web.url}/data/01.tar"]
    with pytest.raises(UserError, match="does not exist"):
        find_shards(f"{web.url}/elsewhere/")
    web.put("/bare/", b'<a href="notes.txt">notes</a>')
    with pytest.raises(UserError, match=r"there are no \*\.tar shards at"):
        find_shards(f"{web.url}/bare/")


def test_a_store_without_its_package_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"pip install 'tercet\[remote\]'"):
        cache(tmp_path).fetch("gs://bucket/0.tar")


class Bucket(AsyncFileSystem):  # type: ignore[misc]
    """A file system like s3fs and gcsfs: paths without scheme, and no timeout of its own."""

    protocol = ("s3", "s3a")
    cachable = False
    files: ClassVar[dict[str, bytes]] = {}
    stalls: ClassVar[list[str]] = []

    async def _ls(self, path: str, detail: bool = True, **_: object) -> list[object]:
        names = [name for name in self.files if name.startswith(path)]
        return [{"name": name, "type": "file", "size": 1} for name in names] if detail else [*names]

    async def _info(self, path: str, **_: object) -> dict[str, object]:
        return {"name": path, "type": "directory", "size": 0}

    async def _get_file(self, path: str, lpath: str, callback: Callback, **_: object) -> None:
        if path not in self.files:
            raise FileNotFoundError(path)
        if path in self.stalls:
            self.stalls.remove(path)
            await asyncio.sleep(STALL)
        callback.set_size(len(self.files[path]))
        Path(lpath).write_bytes(self.files[path])


def test_shards_are_read_from_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_registry, "s3", Bucket)
    monkeypatch.setattr(Bucket, "files", {f"bucket/s/{n}.tar": bytes([n]) * 9 for n in range(3)})
    monkeypatch.setattr(Bucket, "stalls", ["bucket/s/1.tar"])
    urls = [f"s3://bucket/s/{n}.tar" for n in range(3)]
    assert find_shards("s3://bucket/s/") == find_shards("s3://bucket/s/*.tar") == urls
    assert [cache(tmp_path).fetch(url).read_bytes() for url in urls] == [bytes([n]) * 9 for n in range(3)]
    assert not Bucket.stalls
    with pytest.raises(Refused, match=r"s3://bucket/s/3\.tar does not exist"):
        cache(tmp_path).fetch("s3://bucket/s/3.tar")


def test_a_full_disk_is_reported_at_once(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.http.HTTPFileSystem._get_file", full)
    with pytest.raises(UserError, match=r"the disk of .* is full") as error:
        cache(tmp_path).fetch(web.url + "/s.tar")
    assert not isinstance(error.value, Unreachable)


def test_secrets_in_urls_are_redacted() -> None:
    assert redacted("https://me:pass@host:8/a/b.tar?sig=1#x") == "https://host:8/a/b.tar"
    assert redacted("s3://bucket/a{0..3}.tar") == "s3://bucket/a{0..3}.tar"
    assert redacted("shards/0.tar") == "shards/0.tar"
