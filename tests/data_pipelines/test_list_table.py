"""Lists as Parquet: files of several engines against the same list as CSV, and every mistake as one line."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.plans import list_table
from tercet.data_pipelines.plans.open_list import open_list
from tercet.data_pipelines.plans.sample_list import list_of, read_list
from tercet.errors import UserError
from tests.data_pipelines.memory import Captions

SOURCE = Captions("a", [3, 0, 5, 2])


def written(path: Path, **columns: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def times(path: str, **options: Any) -> list[int]:
    return read_list(path, SOURCE, **options).times_N.tolist()


def test_keep_and_count_say_how_often_a_sample_appears(tmp_path: Path) -> None:
    keep = written(tmp_path / "keep.parquet", id=[7, 0, 2], keep=[True, True, False])
    assert times(keep) == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    count = written(tmp_path / "count.parquet", id=[7, 0, 2], count=[3, 300, 0])
    assert times(count) == [300, 0, 0, 0, 0, 0, 0, 3, 0, 0]
    both = written(
        tmp_path / "both.parquet", id=[7, 0, 2], keep=[True, False, True], count=[3, 9, 1], why=["", "x", ""]
    )
    assert times(both) == [0, 0, 1, 0, 0, 0, 0, 3, 0, 0]
    keys = written(tmp_path / "keys.parquet", key=["7", "0"], keep=[True, True])
    assert times(keys) == times(keep)


def test_engines_and_csv_give_the_same_list(tmp_path: Path) -> None:
    """pandas, DuckDB and pyarrow, one file or a folder of them: equal counts, and the digest of the values."""
    id_n = np.arange(10)
    count_n = id_n % 3
    (tmp_path / "list.csv").write_text("id,count\n" + "".join(f"{id},{id % 3}\n" for id in range(10)))
    paths = [written(tmp_path / "arrow.parquet", id=id_n, count=count_n.astype(np.uint8))]
    pandas.DataFrame({"score": id_n / 7, "count": count_n, "id": id_n}).to_parquet(tmp_path / "pandas.parquet")
    duckdb.sql(f"COPY (SELECT range AS id, range % 3 AS count FROM range(10)) TO '{tmp_path}/duckdb.parquet'")
    paths += [str(tmp_path / f"{engine}.parquet") for engine in ("pandas", "duckdb")]
    for start, stop in ((0, 4), (4, 10)):
        written(tmp_path / "folder" / "part" / f"{start:04d}.parquet", id=id_n[start:stop], count=count_n[start:stop])
    paths += [str(tmp_path / "folder"), str(tmp_path / "folder" / "part")]
    assert [times(path) for path in paths] == [times(str(tmp_path / "list.csv"))] * 5
    assert len({open_list(path).digest() for path in paths}) == 1
    assert open_list(paths[0]).summary().endswith("): 6 samples, 9 an epoch")
    assert list_of(SourceConfig(source="a", list=paths[3]), SOURCE).epoch == 9  # type: ignore[union-attr]


def test_the_digest_depends_on_names_and_counts_but_not_on_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = [written(tmp_path / f"{name}.parquet", id=[3, 4], keep=[True, True]) for name in "ab"]
    other = written(tmp_path / "c.parquet", id=[3, 5], keep=[True, True])
    less = written(tmp_path / "d.parquet", id=[3, 4], keep=[True, False])
    keys = written(tmp_path / "e.parquet", key=["3", "4"], keep=[True, True])
    before = [open_list(path).digest() for path in (*same, other, less, keys)]
    assert len(set(before)) == 4
    monkeypatch.setattr(list_table, "ROWS_AT_ONCE", 1)
    assert [open_list(path).digest() for path in (*same, other, less, keys)] == before


def test_a_part_uses_keys(tmp_path: Path) -> None:
    both = written(tmp_path / "both.parquet", id=[3, 99], key=["3", "elsewhere"], count=[2, 1])
    assert times(both, part=True) == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    ids = written(tmp_path / "ids.parquet", id=[3], keep=[True])
    with pytest.raises(UserError, match=r"ids.parquet lists ids, .* but `part` or `held_out`"):
        times(ids, part=True)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an id that is not there": ({"id": [3, 10], "keep": [True, True]}, "row 2: a/0 has no id 10; ids go from 0 to 9"),
    "a negative id": ({"id": [-4], "keep": [True]}, "row 1: `-4` is not an id; give whole numbers from 0 up"),
    "a count that is too large": ({"id": [4], "count": [65_535]}, "row 1: `65535` is not a count; give a whole number"),
    "a negative count": ({"id": [4], "count": [-1]}, "row 1: `-1` is not a count"),
    "half a sample": ({"id": [4], "count": [0.5]}, "row 1: `count` holds double; give whole numbers"),
    "keep as numbers": ({"id": [4], "keep": [1]}, "row 1: `keep` holds int64; give true or false"),
    "an empty cell": ({"id": [4, 5], "keep": [True, None]}, "row 2: `keep` is empty; give true or false, or leave out"),
    "twice": ({"id": [3, 4, 3], "keep": [True] * 3}, "row 3: `3` is listed twice; remove one of the two"),
    "no ids": ({"ids": [3], "keep": [True]}, "a list has a column `id` or `key`, and a column `keep` or `count`, but"),
    "nothing to keep": ({"id": [3], "score": [0.5]}, "but this one has id, score"),
    "nothing kept": ({"id": [3], "keep": [False]}, "selects no sample of a/0; list some with a count above 0"),
    "a key that is not there": ({"key": ["3", "ten"], "keep": [True] * 2}, "row 2: a/0 has no key `ten`"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line_with_its_place(mistake: str, tmp_path: Path) -> None:
    columns, message = MISTAKES[mistake]
    with pytest.raises(UserError) as refused:
        times(written(tmp_path / "list.parquet", **columns))
    assert message in str(refused.value)
    assert str(tmp_path / "list.parquet") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_mistake_in_a_folder_names_the_file_and_its_row(tmp_path: Path) -> None:
    for start in (0, 3):
        written(tmp_path / "train" / f"{start}.parquet", id=[start, start + 1, start + 7], keep=[True] * 3)
    with pytest.raises(UserError, match=r"train/3.parquet, row 3: a/0 has no id 10"):
        times(str(tmp_path))


def test_a_folder_of_several_sources_must_name_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name / "0.parquet", id=[0], keep=[True])
    with pytest.raises(UserError, match=r"has a list for each of one, two; name one of them, such as .*/one"):
        times(str(tmp_path))
    assert sum(times(str(tmp_path / "two"))) == 1


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match=r"list.parquet: not a Parquet file, or a damaged one"):
        times(str(tmp_path / "list.parquet"))
    with pytest.raises(UserError, match=r"the list .*gone.parquet cannot be read .*; name a CSV or Parquet file"):
        times(str(tmp_path / "gone.parquet"))
