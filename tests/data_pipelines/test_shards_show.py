import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.command import main

Pack = Callable[..., Path]


@pytest.fixture
def folder(pack: Pack) -> Path:
    pack("0.tar", [{"__key__": f"{i}", "png": b"p" * 10, "txt": "abc"} for i in range(8)])
    last = [{"__key__": "8", "png": b"p", "txt": "ab"}, {"__key__": "9", "png": b"p", "txt": "ab", "pyd": b""}]
    return pack("1.tar", [*last, {"__key__": "a", "txt": "ab"}, {"__key__": "a", "txt": "ab"}]).parent


def counts(folder: Path) -> dict[str, object]:
    return {
        "data": str(folder), "shards": 2, "samples": 12, "bytes": 8 * 13 + 3 + 3 + 2 + 2,
        "files": {"txt": 12, "png": 10}, "passed_over": {"pyd": 1},
        "repeated": 1, "incomplete": 0, "damaged": {},
    }  # fmt: skip


def test_data_index_prints_the_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "index", str(folder), "--json", "--checksums"]) == 0
    assert json.loads(capsys.readouterr().out) == [counts(folder)]
    assert main(["data", "index", str(folder)]) == 0
    table = capsys.readouterr().out
    assert "12 txt, 10 png" in table
    assert "files that are never read: 1 pyd" in table
    assert "samples whose key occurs more than once in their shard: 1" in table


def test_damage_is_reported_and_the_command_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "0.tar").write_bytes(b"<html>" * 300)
    assert main(["data", "index", str(folder), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["files"]) == (4, {"txt": 4, "png": 2})
    assert found["damaged"] == {str(folder / "0.tar"): "there is no tar header at byte 0"}
    assert main(["data", "index", str(folder)]) == 1
    assert f"damaged: {folder / '0.tar'}: there is no tar header at byte 0" in capsys.readouterr().out


def test_mistakes_are_errors_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data in (str(tmp_path / "nowhere"), "https://host.invalid/{0..3}.tar", "pipe:cat x"):
        assert main(["data", "index", data]) == 2
        assert capsys.readouterr().err.count("\n") == 1
