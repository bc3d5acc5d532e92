"""Compares training from tables with training from the same rows in shards."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tercet.command import main
from tercet.data_pipelines.manifests import build, index_file
from tercet.data_pipelines.manifests import source as manifest_source
from tercet.data_pipelines.manifests.source import ManifestSource
from tests.data_pipelines.listed import DATA, config, loader, opened, photos, rows_of, taken, write_csv

ROWS = 37
WANTED = ("jpg", "txt", "json")


@pytest.fixture
def table(tmp_path: Path, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest_source, "ROWS_PER_PIECE", 10)
    return write_csv(tmp_path / "photos.csv", photos(tmp_path, picture, ROWS))


@pytest.fixture
def shards(table: Path) -> Path:
    out = table.parent / "packed"
    assert main(["data", "pack", str(table), "--out", str(out), "--workers", "1", "--shard-samples", "10"]) == 0
    return out


def test_batches_of_a_table_equal_those_of_the_same_samples_in_shards(table: Path, shards: Path) -> None:
    """Compares ids, groups, pixels and captions of three epochs, with augmentation."""
    ours, theirs = (taken(loader(config(source=str(path))), 14) for path in (table, shards))
    assert rows_of(ours) == rows_of(theirs)
    assert [batch.groups.tolist() for batch in ours] == [batch.groups.tolist() for batch in theirs]


def test_a_row_becomes_caption_json_and_media(table: Path) -> None:
    source = opened(source=str(table))
    (files,) = source.read([4], WANTED)
    assert isinstance(files, dict)
    assert files["txt"] == b"caption, 4 of it"
    assert files["json"] == b'{"group": "g2", "score": "4", "captions": ["caption, 4\\nof it"]}'
    assert files["jpg"] == (table.parent / "fotos ü/1/4.jpg").read_bytes()
    assert (source.shard(4), source.key(4)) == (str(table), "row 5")


@pytest.mark.parametrize("world", [1, 2, 4])
def test_global_batches_do_not_depend_on_the_number_of_ranks(table: Path, world: int) -> None:
    data = config(source=str(table))
    whole = taken(loader(data), 10)
    ranks = [taken(loader(data, rank=rank, world=world), 10) for rank in range(world)]
    assert rows_of(list(chain(*zip(*ranks, strict=True)))) == rows_of(whole)


def test_threads_and_a_resumed_run_get_the_same_batches(table: Path) -> None:
    data = config(source=str(table))
    begun = taken(loader(data), 3)
    rest = taken(
        loader(config({**DATA, "workers": 2, "worker": "thread"}, source=str(table)), start=begun[-1].cursors), 5
    )
    assert rows_of([*begun, *rest]) == rows_of(taken(loader(data), 8))


def test_an_index_is_built_once_and_again_when_the_table_changes(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(source=str(table))
    with monkeypatch.context() as context:
        context.setattr(build, "_build", None)  # a second look finds what the first has built
        assert opened(source=str(table)).fingerprint == first.fingerprint
    text = table.read_text(encoding="utf-8").replace("caption, 7\n", "caption; 7\n")
    table.write_text(text, encoding="utf-8")  # of the same length
    again = opened(source=str(table))
    assert again.fingerprint != first.fingerprint
    assert again.read([7], ["txt"]) == [{"txt": b"caption; 7 of it"}]


def test_an_index_of_an_earlier_version_is_built_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(index_file, "EDITION", index_file.EDITION - 1)
        first = opened(source=str(table))
    paths = list((table.parent / ".index").glob("*.safetensors"))
    written = [path.stat().st_ino for path in paths]
    again = opened(source=str(table))
    assert again.fingerprint == first.fingerprint
    assert [path.stat().st_ino for path in paths] != written, "the old index was read"


def test_moved_data_keep_their_fingerprint(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without their index."""
    before = opened(source=str(table)).fingerprint
    (tmp_path / "other").mkdir()
    for path in (table, tmp_path / "fotos ü"):
        path.rename(tmp_path / "other" / path.name)
    assert opened(source=str(tmp_path / "other" / table.name)).fingerprint == before
    (tmp_path / "other").rename(tmp_path / "third")
    monkeypatch.setattr(build, "_build", None)
    assert opened(source=str(tmp_path / "third" / table.name)).fingerprint == before


def test_read_only_data_are_indexed_in_the_cache(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".index").write_text("in the way")
    source = opened(source=str(table))
    assert source.read([1], ["txt"]) == [{"txt": b"caption, 1 of it"}]
    assert list((tmp_path / "cache" / "index").glob("*.safetensors"))


def test_a_pickled_source_is_small_and_reads_the_same(table: Path) -> None:
    source = opened(source=str(table))
    assert isinstance(source, ManifestSource)
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    assert pickle.loads(sent).read(range(ROWS), WANTED) == source.read(range(ROWS), WANTED)


def test_ranks_read_only_their_own_files(table: Path) -> None:
    assert opened(source=str(table)).counts.tolist() == [10, 10, 10, 7]
    data = config(source=str(table))
    ranks = [taken(loader(data, rank=rank, world=2), 9) for rank in (0, 1)]  # two epochs
    seen = [{id for batch in rank for id in batch.ids.tolist()} for rank in ranks]
    assert len(seen[0] & seen[1]) <= 4  # but for those at the border of the two halves


LARGE = """
import psutil, sys
from tercet.data_pipelines.sources.open import open_source
before = psutil.Process().memory_full_info().uss
source = open_source(sys.argv[1])
source.read([0, len(source) - 1], ["txt"])
print(len(source), psutil.Process().memory_full_info().uss - before)
"""


def test_opening_reads_no_rows(tmp_path: Path) -> None:
    """A process that opens 10,000 rows keeps almost nothing of the index (30 MB) in memory."""
    (tmp_path / "0.jpg").write_bytes(b"x")
    lines = ("0.jpg," + "words " * 500 + f"{i}\n" for i in range(10_000))
    (tmp_path / "m.csv").write_text("path,caption\n" + "".join(lines))
    opened(source=str(tmp_path / "m.csv"))
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path / "m.csv")], capture_output=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 10_000
    assert grown < 10_000_000
