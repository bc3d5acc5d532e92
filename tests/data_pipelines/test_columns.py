"""Columns are read back by source and id, in whatever order they were written."""

from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines import columns
from tercet.data_pipelines.columns import Column, has_column, read_column, read_pieces, write_column, write_part
from tercet.errors import UserError


def test_values_are_read_back_by_source_and_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PIECE", 10)
    expected = {}
    for fingerprint in ("0a1b", "0a1b 0.5 1"):
        draw = np.random.default_rng(len(fingerprint))
        id_n = draw.permutation(100)[:37]
        values = {"score": draw.normal(size=37), "place": draw.integers(9, size=(37, 2))}
        write_column(tmp_path, fingerprint, Column(id_n, values))
        expected[fingerprint] = {id: (values["score"][at], tuple(values["place"][at])) for at, id in enumerate(id_n)}
    for fingerprint, rows in expected.items():
        found = read_column(tmp_path, fingerprint)
        assert found.id_n.tolist() == sorted(rows)
        for at, id in enumerate(found.id_n):
            assert (found.values["score"][at], tuple(found.values["place"][at])) == rows[id]
        assert all(len(set(piece.id_n // 10)) == 1 for piece in read_pieces(tmp_path, fingerprint))


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    write_column(tmp_path, "a", Column(np.arange(5), {"score": np.zeros(5)}))
    write_column(tmp_path, "a", Column(np.arange(3), {"other": np.ones(3)}))
    found = read_column(tmp_path, "a")
    assert (found.id_n.tolist(), list(found.values)) == ([0, 1, 2], ["other"])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["000000000000.safetensors"]


def test_parts_that_several_processes_wrote_are_one_column(tmp_path: Path) -> None:
    score = np.random.default_rng(0).normal(size=50)
    id_n = np.arange(3, 103, 2)
    for part in (slice(30, 50), slice(0, 17), slice(17, 30)):
        write_part(tmp_path, "a", Column(id_n[part], {"score": score[part]}))
    found = read_column(tmp_path, "a")
    assert (found.id_n.tolist(), found.values["score"].tolist()) == (id_n.tolist(), score.tolist())
    assert (has_column(tmp_path, "a"), has_column(tmp_path, "b")) == (True, False)


def test_values_of_other_data_are_refused(tmp_path: Path) -> None:
    write_column(tmp_path, "a", Column(np.arange(5), {"score": np.zeros(5)}))
    with pytest.raises(UserError, match=r"has no values for the source with fingerprint b, so its samples changed"):
        read_column(tmp_path, "b")
