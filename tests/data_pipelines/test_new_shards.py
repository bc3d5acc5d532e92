"""New shards of a decision: the kept samples with all of their files, resumed after a kill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.api import curate as api
from tercet.command import main
from tercet.data_pipelines.curate import new_shards
from tercet.data_pipelines.curate.new_shards import write_shards
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.open import open_source
from tercet.errors import UserError
from tests.data_pipelines.conftest import Pack
from tests.data_pipelines.scored import chosen

WANTED = {"png", "txt", "json"}


@pytest.fixture
def source(pack: Pack, picture: Callable[..., bytes]) -> Source:
    samples = [
        {"__key__": f"s{id:02d}", "png": picture(id), "txt": f"caption {id}", "json": json.dumps({"id": id}).encode()}
        for id in range(40)
    ]
    pack("a.tar", samples[:25])
    folder = pack("b.tar", samples[25:]).parent
    return open_source(str(folder / "{a,b}.tar"))


@pytest.fixture
def table(source: Source, tmp_path: Path) -> ScoreTable:
    folder = tmp_path / "scores"
    table = ScoreTable.begin(folder, TableSource.of(source, str(tmp_path / "{a,b}.tar")))
    (folder / "g" / "data").mkdir(parents=True)
    pq.write_table(pa.table({"id": list(range(40)), "score": list(range(40))}), folder / "g" / "data" / "0.parquet")
    chosen(table, [{"where": "id % 3 > 0"}], "clean")
    return table


def contents(source: Source) -> dict[str, Any]:
    found = source.read(range(len(source)), WANTED)
    return {source.key(id): dict(files) for id, files in enumerate(found)}  # type: ignore[arg-type]


def assert_same_shards(one: Path, other: Path, count: int) -> None:
    names = sorted(path.name for path in one.glob("*.tar"))
    assert len(names) == count
    assert sorted(path.name for path in other.glob("*.tar")) == names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_new_shards_hold_the_kept_samples_with_their_files(source: Source, table: ScoreTable, tmp_path: Path) -> None:
    out = tmp_path / "new"
    rules = ["where=id % 3 > 0", "--shards", str(out), "--shard-samples", "8", "--workers", "1"]
    assert main(["curate", "select", str(table.folder), "--out", "clean", *rules]) == 0
    kept = [id for id in range(40) if id % 3]
    new = open_source(str(out))
    before = contents(source)
    assert contents(new) == {source.key(id): before[source.key(id)] for id in kept}
    assert list(contents(new)) == [source.key(id) for id in kept]
    assert new.counts.tolist() == [8, 8, 8, 2]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows"], manifest["samples"], len(manifest["shards"])) == (26, 26, 4)


def test_shards_continue_after_a_kill_and_are_the_same(
    source: Source, table: ScoreTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_shards, "CHUNK", 3)
    decision = table.group("clean")
    write_shards(decision, "data", source, tmp_path / "whole", 8)
    read, calls = new_shards._read, list[list[int]]()

    def killed(source: Source, chunk: tuple[int, list[int]]) -> Any:
        calls.append(chunk[1])
        if len(calls) == 8:
            raise KeyboardInterrupt
        return read(source, chunk)

    monkeypatch.setattr(new_shards, "_read", killed)
    with pytest.raises(KeyboardInterrupt):
        write_shards(decision, "data", source, tmp_path / "killed", 8)
    write_shards(decision, "data", source, tmp_path / "killed", 8)
    assert calls[8][0] == [id for id in range(40) if id % 3][16]  # two shards were complete
    assert_same_shards(tmp_path / "whole", tmp_path / "killed", 4)


def test_workers_do_not_change_the_shards(source: Source, table: ScoreTable, tmp_path: Path) -> None:
    for workers in (1, 2):
        write_shards(table.group("clean"), "data", source, tmp_path / str(workers), 10, workers)
    assert_same_shards(tmp_path / "1", tmp_path / "2", 3)


def test_another_decision_for_the_same_folder_is_refused(source: Source, table: ScoreTable, tmp_path: Path) -> None:
    write_shards(table.group("clean"), "data", source, tmp_path / "new", 10)
    chosen(table, [{"where": "id % 3 = 1"}], "other")
    with pytest.raises(UserError, match="was packed with other options"):
        write_shards(table.group("other"), "data", source, tmp_path / "new", 10)


def test_samples_that_come_several_times_need_the_list(source: Source, table: ScoreTable, tmp_path: Path) -> None:
    chosen(table, [{"soft_cap": {"by": "g.score", "count": 80, "round": 20, "temperature": 9}}], "often")
    with pytest.raises(UserError, match="keeps samples several times, which shards cannot hold; leave out --shards"):
        write_shards(table.group("often"), "data", source, tmp_path / "new")


def test_data_that_are_gone_are_refused(table: ScoreTable, tmp_path: Path) -> None:
    (tmp_path / "a.tar").unlink()
    with pytest.raises(UserError, match="the samples of `data` are not where they were scored, or have changed"):
        api.write_shards(table.folder, "clean", tmp_path / "new")
