"""Lists with ids and keys, whose data were exchanged since: noticed by the first key of each file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.data_pipelines.plans.sample_list import read_list
from tercet.errors import UserError
from tests.data_pipelines.memory import Captions

SOURCE = Captions("a", [3, 0, 5, 2])


def write(path: Path, ids: list[int], keys: list[str | None]) -> None:
    columns: dict[str, Any] = {"id": pa.array(ids, pa.int64()), "key": pa.array(keys, pa.string())}
    pq.write_table(pa.table({**columns, "keep": pa.array([True] * len(ids), pa.bool_())}), path)


def test_a_key_that_does_not_belong_to_its_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", [3, 4], ["3", "4"])
    write(tmp_path / "2.parquet", [], [])
    assert read_list(str(tmp_path), SOURCE).kept == 2
    write(tmp_path / "1.parquet", [5, 6], ["six", "7"])
    with pytest.raises(UserError, match=r"1.parquet, row 1: the sample 5 has the key `six` here, but `5` in a/2"):
        read_list(str(tmp_path), SOURCE)


def test_a_list_need_not_have_keys(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", [5], [None])
    assert read_list(str(tmp_path), SOURCE).kept == 1
