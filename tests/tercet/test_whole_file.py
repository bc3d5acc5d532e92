"""A file is whole or as it was before, whatever ends the process that writes it."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from tercet.whole_file import remove_drafts, whole_file, write_json, write_whole

FORK = multiprocessing.get_context("fork")


def killed_within(path: Path) -> None:
    with whole_file(path) as draft:
        draft.write_text("half")
        os._exit(9)


def fail_within(path: Path) -> None:
    with whole_file(path) as draft:
        draft.write_text("half")
        raise OSError("full")


def test_a_kill_leaves_the_old_file_and_a_draft_that_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    (tmp_path / ".hidden.json").touch()
    process = FORK.Process(target=killed_within, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert json.loads(path.read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 3
    remove_drafts(tmp_path)
    assert sorted(found.name for found in tmp_path.iterdir()) == [".hidden.json", "a.json"]


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(OSError, match="full"):
        fail_within(path)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("a.txt", "old")]


def test_names_that_are_not_utf8_are_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9")
    write_json(tmp_path / "new folder" / "a.json", {"path": name})
    written = (tmp_path / "new folder" / "a.json").read_text(encoding="utf-8")
    assert "é" in written
    assert json.loads(written) == {"path": name}
