"""A score table survives a kill, refuses other data and other requests, and reads what other engines write."""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tercet.data_pipelines.curate import score_group
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource, is_score_table
from tercet.errors import UserError
from tercet.processes import server

COLUMNS = {
    "width": ScoreColumn("int32", "pixels"),
    "text": ScoreColumn("string", "the first caption"),
    "blank": ScoreColumn("bool", "one colour"),
}
REQUEST = {"by": "signals", "options": {"dark": 0.1, "captions": ["txt"]}}
SAMPLES = 10
SOURCE = TableSource("data", "fingerprint", "snapshot", SAMPLES, ("shards",))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_group, "PART", 4)


def begun(folder: Path, **changed: Any) -> ScoreGroup:
    table = ScoreTable.begin(folder, SOURCE)
    return table.begin_group("signals", {**REQUEST, **changed}, COLUMNS)


def rows(ids: range) -> pa.Table:
    """Every third sample has no row, and every fourth no caption."""
    held = [id for id in ids if id % 3 != 1]
    texts = [None if id % 4 == 0 else f"caption é {id}" for id in held]
    values = {"id": held, "key": [f"k{id}" for id in held], "width": [id * 10 for id in held], "text": texts}
    return pa.table({**values, "blank": [id % 2 == 0 for id in held]})


def written(folder: Path) -> ScoreGroup:
    group = begun(folder)
    for ids in group.missing("data"):
        group.write("data", ids, rows(ids))
    return group


def read(group: ScoreGroup) -> list[dict[str, Any]]:
    return [row for batch in group.batches("data") for row in batch.to_pylist()]


def test_the_rows_that_are_read_are_those_that_were_written(tmp_path: Path) -> None:
    written(tmp_path / "scores")
    table = ScoreTable(tmp_path / "scores")
    group = table.group("signals")
    assert read(group) == rows(range(SAMPLES)).to_pylist()
    assert [path.name for path in group.files("data")] == [f"{first:012d}.parquet" for first in (0, 4, 8)]
    assert group.columns("data") == {"width": "int32", "text": "string", "blank": "bool"}
    some = [row for batch in group.batches("data", ["width"]) for row in batch.to_pylist()]
    assert some == [{"id": row["id"], "width": row["width"]} for row in read(group)]
    assert table.groups == ["signals"]
    assert table.sources == {"data": SOURCE}


def test_only_parts_that_do_not_exist_are_missing(tmp_path: Path) -> None:
    group = begun(tmp_path)
    assert group.missing("data") == [range(4), range(4, 8), range(8, 10)]
    group.write("data", range(4, 8), rows(range(4, 8)))
    assert begun(tmp_path).missing("data") == [range(4), range(8, 10)]


def write_and_die(folder: Path) -> None:
    """Killed after the draft is on disk, and before it gets its name."""
    score_group.PART = 4
    group = begun(folder)
    group.write("data", range(4), rows(range(4)))
    with patch.object(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
        group.write("data", range(4, 8), rows(range(4, 8)))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_between_draft_and_rename_loses_one_part(tmp_path: Path) -> None:
    process = server().Process(target=write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    group = begun(tmp_path)
    (draft,) = (tmp_path / "signals/data").glob(".*")
    assert draft.stat().st_size
    assert read(group) == rows(range(4)).to_pylist()
    assert duckdb.sql(f"select count(*) from read_parquet('{group.glob('data')}')").fetchall() == [(3,)]
    written(tmp_path).finish()
    assert read(group) == rows(range(SAMPLES)).to_pylist()
    assert not draft.exists()


def write_share(folder: Path, rank: int, size: int) -> None:
    score_group.PART = 4
    group = begun(folder)
    parts = [range(start, min(start + 4, SAMPLES)) for start in range(0, SAMPLES, 4)]
    for ids in parts[rank::size] + parts[:1]:  # both write the first part
        group.write("data", ids, rows(ids))


def test_two_processes_write_one_group(tmp_path: Path) -> None:
    processes = [server().Process(target=write_share, args=(tmp_path, rank, 2)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert read(begun(tmp_path)) == rows(range(SAMPLES)).to_pylist()


def test_another_request_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(UserError, match=r"signals holds other values \(options changed\); choose another name"):
        begun(tmp_path, options={"dark": 0.2, "captions": ["txt"]})


@pytest.mark.parametrize("what", ["fingerprint", "snapshot", "samples"])
def test_changed_data_are_refused(what: str, tmp_path: Path) -> None:
    written(tmp_path)
    changed = TableSource(**{**vars(SOURCE), what: 11 if what == "samples" else "another"})
    with pytest.raises(UserError, match="the samples of the source `data` changed since they were scored"):
        ScoreTable.begin(tmp_path, changed)


def test_sources_are_added_one_by_one(tmp_path: Path) -> None:
    written(tmp_path)
    second = TableSource("second-1", "other", "other", 3, ("a.tar", "b.tar"))
    group = ScoreTable.begin(tmp_path, second).begin_group("signals", REQUEST, COLUMNS)
    assert group.missing("second-1") == [range(3)]
    group.write("second-1", range(3), rows(range(3)))
    table = ScoreTable(tmp_path)
    assert list(table.sources.values()) == [SOURCE, second]
    assert table.group("signals").sources == ["data", "second-1"]


def pandas_file(path: Path) -> None:
    frame = pd.DataFrame({"keep": [True, False, True], "id": np.array([7, 2, 3], np.int32), "key": ["k7", "k2", "k3"]})
    frame.to_parquet(path, index=False)


def duckdb_file(path: Path) -> None:
    rows = "(7::INTEGER, 'k7', true), (2, 'k2', false), (3, 'k3', true)"
    duckdb.sql(f"copy (select * from (values {rows}) as t(id, key, keep)) to '{path}' (format parquet)")


@pytest.mark.parametrize("write", [pandas_file, duckdb_file])
def test_a_group_of_another_engine_is_read(write: Any, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "mine/data").mkdir(parents=True)
    write(tmp_path / "mine/data/part-0000.snappy.parquet")
    (tmp_path / "mine/data/_SUCCESS").touch()  # as Spark writes
    table = ScoreTable(tmp_path)
    assert table.groups == ["mine", "signals"]
    group = table.group("mine")
    assert {row["id"]: row["keep"] for row in read(group)} == {7: True, 2: False, 3: True}
    assert {str(batch["id"].type) for batch in group.batches("data")} == {"int64"}
    with pytest.raises(UserError, match="another program wrote"):
        table.begin_group("mine", REQUEST, COLUMNS)


def test_duckdb_joins_groups_over_the_id(tmp_path: Path) -> None:
    group = written(tmp_path)
    (tmp_path / "mine/data").mkdir(parents=True)
    pandas_file(tmp_path / "mine/data/mine.parquet")
    mine = ScoreTable(tmp_path).group("mine")
    joined = duckdb.sql(
        f"""select id, signals.width from read_parquet('{group.glob("data")}') as signals
        join read_parquet('{mine.glob("data")}') as mine using (id) where mine.keep order by id"""
    )
    assert joined.fetchall() == [(3, 30)]  # sample 7 has no signals


def test_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a score table; `tercet curate score` writes one"):
        ScoreTable(tmp_path)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match="is not a score table, and not an empty folder"):
        begun(tmp_path)
    assert not is_score_table(tmp_path)
    group = written(tmp_path / "scores")
    table = ScoreTable(tmp_path / "scores")
    with pytest.raises(UserError, match="has no group `signal`; did you mean `signals`"):
        table.group("signal")
    with pytest.raises(UserError, match="`A b` cannot name a group of scores"):
        table.begin_group("A b", REQUEST, COLUMNS)
    with pytest.raises(UserError, match="`a/b` cannot name a source"):
        ScoreTable.begin(tmp_path / "scores", TableSource("a/b", "", "", 1, ()))
    with pytest.raises(UserError, match=r"000000000000.parquet has no column `height`; it has id, key, width, text"):
        list(group.batches("data", ["height"]))
    group.files("data")[0].write_bytes(b"PAR1 or not")
    with pytest.raises(UserError, match="not a Parquet file, or a damaged one"):
        read(group)


@pytest.mark.parametrize("missing", ["pyarrow", "duckdb"])
def test_a_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tercet.data_pipelines.curate import engines

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"score tables need {missing}; pip install 'tercet\[curate\]'"):
        engines.arrow() if missing == "pyarrow" else engines.duckdb()
