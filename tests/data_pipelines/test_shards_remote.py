import json
import os
import pickle
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.counts import remote_counts
from tercet.data_pipelines.shards.patience import Patience, Refused, Unreachable
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.remote import RemoteShards, open_remote
from tercet.data_pipelines.shards.tar import DamagedShard, Missing
from tercet.data_pipelines.sources.open import open_source
from tercet.errors import UserError
from tests.data_pipelines.web import Web, serving

QUICK = Patience(tries=3, stall=1.5, pause=0.01)
COUNTS = (4, 3, 5)
PACK = Callable[[str, list[Mapping[str, object]]], Path]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as web:
        yield web


@pytest.fixture
def paths(pack: PACK) -> list[Path]:
    """Three shards as files."""
    return [
        pack(f"{n:05d}.tar", [{"__key__": f"{n:05d}{i:04d}", "txt": f"{n} {i}", "json": b"{}"} for i in range(count)])
        for n, count in enumerate(COUNTS)
    ]


@pytest.fixture
def urls(web: Web, paths: list[Path]) -> list[str]:
    """The same shards on a server, with the statistics that img2dataset writes."""
    urls = []
    for path, count in zip(paths, COUNTS, strict=True):
        urls.append(web.put(f"/s/{path.name}", path.read_bytes()))
        state(web, path.stem, count)
    return urls


def state(web: Web, stem: str, count: int, *faults: str) -> None:
    stats = {"count": count + 7, "successes": count, "failed_to_download": 7, "status_dict": {"success": count}}
    web.put(f"/s/{stem}_stats.json", json.dumps(stats).encode(), *faults)


def opened(folder: Path, urls: list[str], missing: Missing = "fail", **more: float) -> RemoteShards:
    return open_remote(urls, Cache(folder / "cache", patience=QUICK), missing=missing, **more)


def tars(web: Web) -> dict[str, int]:
    return {path: times for path, times in web.asked.items() if path.endswith(".tar")}


def read(source: RemoteShards) -> list[object]:
    """The files of every sample, or the reason why it is bad."""
    files = source.read(range(len(source)), {"txt"})
    return [each.reason if isinstance(each, BadSample) else each["txt"].decode() for each in files]


def test_remote_samples_equal_those_on_disk(tmp_path: Path, web: Web, urls: list[str], paths: list[Path]) -> None:
    remote, local = opened(tmp_path, urls), open_shards([str(path) for path in paths])
    assert not tars(web)
    assert remote.counts.tolist() == local.counts.tolist() == list(COUNTS)
    order = np.random.default_rng(0).permutation(len(local)).tolist()
    assert remote.read(order, {"txt", "json"}) == local.read(order, {"txt", "json"})
    assert [remote.key(id) for id in order] == [local.key(id) for id in order]
    assert [remote.shard(id).rpartition("/")[2] for id in order] == [Path(local.shard(id)).name for id in order]
    assert set(tars(web).values()) == {1}


def test_only_shards_that_are_read_are_fetched(tmp_path: Path, web: Web, urls: list[str]) -> None:
    source = opened(tmp_path, urls)
    source.read([5, 4], {"txt"})
    assert tars(web) == {"/s/00001.tar": 1}


def test_counts_are_cached(tmp_path: Path, web: Web, urls: list[str]) -> None:
    first = opened(tmp_path, urls)
    state(web, "00002", 6)
    asked = web.asked.total()
    again = opened(tmp_path, urls)
    assert web.asked.total() == asked
    assert again.fingerprint == first.fingerprint
    assert opened(tmp_path / "elsewhere", urls).fingerprint != first.fingerprint


def test_credentials_in_a_url_do_not_change_the_source(tmp_path: Path, web: Web, urls: list[str]) -> None:
    signed = [url.replace("//", "//me:secret@") + "?signed=1" for url in urls]
    source = opened(tmp_path, signed)
    assert source.fingerprint == opened(tmp_path, urls).fingerprint
    assert source.shard(0) == urls[0]
    assert "secret" not in source.shard(0)
    web.put("/t/00000.tar", b"")
    web.put("/t/00000_stats.json", web.pages["/s/00000_stats.json"])
    elsewhere = opened(tmp_path, [url.replace("/s/", "/t/") for url in urls[:1]])
    assert elsewhere.fingerprint != opened(tmp_path, urls[:1]).fingerprint


def test_shards_without_stats_are_fetched_and_counted(
    tmp_path: Path, web: Web, urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del web.pages["/s/00000_stats.json"]
    web.put("/s/00002_stats.json", b"<html>We are sorry</html>")
    source = opened(tmp_path, urls)
    assert source.counts.tolist() == list(COUNTS)
    assert tars(web) == {"/s/00000.tar": 1, "/s/00002.tar": 1}
    assert "2 shards have no file that states their number of samples" in capsys.readouterr().err
    assert opened(tmp_path, urls).counts.tolist() == list(COUNTS)
    assert tars(web) == {"/s/00000.tar": 1, "/s/00002.tar": 1}


def test_an_incomplete_line_in_the_cache_of_counts_affects_no_other(tmp_path: Path, web: Web, urls: list[str]) -> None:
    opened(tmp_path, urls[:1])
    with (tmp_path / "cache" / "shards" / "counts.jsonl").open("a") as file:
        file.write('\n["half a na')
    assert opened(tmp_path, urls).counts.tolist() == list(COUNTS)
    assert opened(tmp_path, urls).counts.tolist() == list(COUNTS)
    assert web.asked["/s/00002_stats.json"] == 1


@pytest.mark.parametrize(
    ("page", "count"),
    [(b'{"successes": 7}', 7), (b'{"successes": -1}', None), (b"[7]", None), (b'{"count": 7}', None), (b"\xff", None)],
)
def test_stats_files_are_read_and_validated(web: Web, page: bytes, count: int | None) -> None:
    web.put("/a_stats.json", page, "503", "stalls")
    assert remote_counts([f"{web.url}/a.tar?signed=1", f"{web.url}/b.tar"], QUICK) == [count, None]


def test_a_server_that_is_down_is_an_error(web: Web) -> None:
    web.put("/a_stats.json", b"{}", *["503"] * 3)
    with pytest.raises(Unreachable, match=r"a_stats\.json could not be fetched in 3 tries"):
        remote_counts([f"{web.url}/a.tar"], QUICK)


def test_samples_missing_from_a_shard_are_bad(tmp_path: Path, web: Web, urls: list[str]) -> None:
    state(web, "00001", 5)
    source = opened(tmp_path, urls)
    assert len(source) == 14
    assert read(source)[4:9] == ["1 0", "1 1", "1 2", "missing from its shard", "missing from its shard"]
    assert [source.key(id) for id in (6, 7)] == ["000010002", "#3"]


def test_samples_beyond_the_stated_count_are_left_out_with_a_message(
    tmp_path: Path, web: Web, urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    state(web, "00000", 1)
    assert read(opened(tmp_path, urls))[:2] == ["0 0", "1 0"]
    assert "00000.tar contains 3 more samples than are stated" in capsys.readouterr().err


def test_a_shard_that_cannot_be_fetched_is_an_error_or_its_samples_are_bad(
    tmp_path: Path, web: Web, urls: list[str]
) -> None:
    del web.pages["/s/00001.tar"]
    with pytest.raises(Refused, match=r"00001\.tar does not exist"):
        read(opened(tmp_path, urls))
    source = opened(tmp_path, urls, missing="skip")
    asked = web.asked["/s/00001.tar"]
    assert read(source)[3:8] == ["0 3", *["shard: cannot be fetched"] * 3, "2 0"]
    assert (source.shard(5), source.key(5)) == (urls[1], "#1")
    read(source)
    assert web.asked["/s/00001.tar"] == asked + 1


def test_a_damaged_shard_is_named_and_fetched_again_after_repair(
    tmp_path: Path, web: Web, urls: list[str], paths: list[Path]
) -> None:
    web.put("/s/00000.tar", b"<html>" + b"sorry " * 500)
    with pytest.raises(DamagedShard, match=rf"{urls[0]} is damaged"):
        read(opened(tmp_path, urls))
    assert read(opened(tmp_path, urls, missing="skip"))[3:5] == ["shard: damaged", "1 0"]
    web.put("/s/00000.tar", paths[0].read_bytes())
    assert read(opened(tmp_path, urls))[3:5] == ["0 3", "1 0"]


def test_a_silently_truncated_shard_is_noticed(tmp_path: Path, web: Web, urls: list[str]) -> None:
    web.put("/s/00000.tar", web.pages["/s/00000.tar"][:3000], "no length")
    with pytest.raises(DamagedShard, match=r"00000\.tar is damaged"):
        read(opened(tmp_path, urls))


def test_shards_that_can_be_neither_counted_nor_fetched_are_an_error_or_skipped(
    tmp_path: Path, web: Web, urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del web.pages["/s/00001.tar"], web.pages["/s/00001_stats.json"]
    with pytest.raises(Refused):
        opened(tmp_path, urls)
    with pytest.raises(UserError, match="1 of 3 shards cannot be read"):
        opened(tmp_path, urls, missing="skip")
    assert "skipped: " + urls[1] in capsys.readouterr().err
    assert read(opened(tmp_path, urls, missing="skip", max_bad=0.34))[3:5] == ["0 3", "2 0"]


def test_removed_shards_stay_readable_and_are_fetched_again(tmp_path: Path, web: Web, urls: list[str]) -> None:
    source = opened(tmp_path, urls)
    whole = read(source)
    for path in (tmp_path / "cache" / "shards").glob("*.tar"):
        path.unlink()
    assert read(source) == whole
    assert set(tars(web).values()) == {1}
    assert read(pickle.loads(pickle.dumps(source))) == whole
    assert set(tars(web).values()) == {2}


def opened_and_read(folder: Path, urls: list[str]) -> list[object]:
    return read(opened(folder, urls))


def test_concurrent_processes_fetch_each_shard_once(tmp_path: Path, web: Web, urls: list[str]) -> None:
    for path in [path for path in web.pages if path.endswith("json")]:
        del web.pages[path]
    for path in web.pages:
        web.faults[path] = ["slow"]
    with get_context("spawn").Pool(2) as pool:
        first, second = pool.starmap(opened_and_read, [(tmp_path, urls)] * 2, chunksize=1)
    assert first == second == [f"{n} {i}" for n, count in enumerate(COUNTS) for i in range(count)]
    assert set(tars(web).values()) == {1}


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.01)


def test_shards_are_fetched_ahead(tmp_path: Path, web: Web, urls: list[str]) -> None:
    source = opened(tmp_path, urls)
    web.faults["/s/00002.tar"] = ["slow"]
    source.prefetch([11, 10, 0, 11])
    source.prefetch([9])
    until(lambda: len(list((tmp_path / "cache").rglob("*.tar.safetensors"))) == 2)
    assert tars(web) == {"/s/00002.tar": 1, "/s/00000.tar": 1}
    source.prefetch(range(12))
    until(lambda: len(list((tmp_path / "cache").rglob("*.tar.safetensors"))) == 3)
    read(source)
    assert set(tars(web).values()) == {1}


def test_an_error_while_fetching_ahead_is_raised_on_reading(tmp_path: Path, web: Web, urls: list[str]) -> None:
    page = web.pages.pop("/s/00001.tar")
    source = opened(tmp_path, urls)
    source.prefetch([5])
    until(lambda: web.asked["/s/00001.tar"] == 1)
    source.prefetch([4, 0])
    until(lambda: web.asked["/s/00000.tar"] == 1)
    assert web.asked["/s/00001.tar"] == 1
    with pytest.raises(Refused):
        source.read([5], {"txt"})
    web.pages["/s/00001.tar"] = page
    assert source.read([5], {"txt"}) == [{"txt": b"1 1"}]


def test_open_remote_shards_stay_below_the_limit_of_file_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 100))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append(limit))
    few = RemoteShards({"https://none.invalid/0.tar": 1}, Cache(tmp_path), "fail")
    assert limits == [(100, 100)]
    assert few._open.cache_parameters()["maxsize"] == 25


def test_the_cache_folder_can_be_set(tmp_path: Path, urls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "named"))
    open_remote(urls, Cache()).read([0], {"txt"})
    assert [name for name in os.listdir(tmp_path / "named" / "shards") if name.endswith("00000.tar")]


def test_a_config_names_shards_on_disk_or_behind_urls(
    tmp_path: Path, urls: list[str], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    braces = urls[0].replace("00000", "{00000..00002}")
    remote, local = open_source(braces), open_source([str(path) for path in paths])
    assert remote.read(range(12), {"txt"}) == local.read(range(12), {"txt"})
    with pytest.raises(UserError, match="Name two sources"):
        open_source([urls[0], str(paths[1])])
