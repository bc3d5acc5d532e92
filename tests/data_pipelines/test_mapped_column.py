"""Rows of a mapped column are those that were written, whatever the files they lie in."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines import columns
from tercet.data_pipelines.columns import Column, write_column, write_part
from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.errors import UserError


def test_any_rows_of_dense_and_sparse_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PIECE", 20)
    draw = np.random.default_rng(0)
    id_n = np.sort(np.concatenate([np.arange(10, 40), draw.choice(np.arange(40, 100), 25, replace=False)]))
    vector_nd = draw.normal(size=(len(id_n), 3)).astype(np.float16)
    write_column(tmp_path, "a", Column(id_n, {"image": vector_nd, "score": np.arange(len(id_n))}))
    expected = {id: vector_nd[row] for row, id in enumerate(id_n.tolist())}
    asked_n = draw.permutation(np.arange(130))
    asked_n = np.concatenate([asked_n, asked_n[:7]])
    rows_nd, has_n = MappedColumn(tmp_path, "a", "image").rows(asked_n)
    assert rows_nd.dtype == np.float16
    assert has_n.tolist() == [id in expected for id in asked_n.tolist()]
    for row, id in zip(rows_nd, asked_n.tolist(), strict=True):
        assert row.tolist() == (expected[id].tolist() if id in expected else [0, 0, 0])
    assert MappedColumn(tmp_path, "a", "score").rows(np.array([11, 10]))[0].tolist() == [1, 0]


def test_parts_that_processes_wrote_are_one_column(tmp_path: Path) -> None:
    for start in (20, 0, 10):
        id_n = np.arange(start, start + 10)
        write_part(tmp_path, "a b", Column(id_n, {"score": id_n * 2.0}))
    rows_n, has_n = MappedColumn(tmp_path, "a b", "score").rows(np.array([29, 5, 30]))
    assert (rows_n.tolist(), has_n.tolist()) == ([58.0, 10.0, 0.0], [True, True, False])


def test_one_entry_of_each_value_is_read_also_after_a_copy(tmp_path: Path) -> None:
    """Captions of a sample, of which a step draws one. What has no value stays as it is."""
    draw = np.random.default_rng(1)
    parts = {0: draw.normal(size=(4, 2, 3)), 10: draw.normal(size=(4, 5, 3))}  # files of different depths
    for start, value_n in parts.items():
        write_part(tmp_path, "a", Column(np.arange(start, start + 4), {"text": value_n}))
    column = pickle.loads(pickle.dumps(MappedColumn(tmp_path, "a", "text")))
    id_n, at_n, found_nd = np.array([12, 3, 7, 10]), np.array([4, 1, 0, 0]), np.full((4, 3), 9.0)
    assert column.read(id_n, found_nd, at_n).tolist() == [True, True, False, True]
    assert found_nd.tolist() == [*map(list, (parts[10][2, 4], parts[0][3, 1], [9] * 3, parts[10][0, 0]))]
    assert len(column) == 8


def test_a_value_that_no_file_has_is_refused(tmp_path: Path) -> None:
    write_column(tmp_path, "a", Column(np.arange(3), {"score": np.zeros(3)}))
    for fingerprint, name in (("a", "image"), ("b", "score")):
        with pytest.raises(UserError, match=rf"has no values `{name}` for the source with fingerprint {fingerprint}$"):
            MappedColumn(tmp_path, fingerprint, name)
