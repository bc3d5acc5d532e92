"""Packed shards, read by tarfile, webdataset and tercet; every row is counted."""

import hashlib
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from tercet.command import main
from tercet.data_pipelines.shards.read import open_shards

Picture = Callable[..., bytes]
Run = Callable[..., tuple[int, dict[str, Any]]]

CAPTIONS = ["plain", 'with "quotes", a comma', "two\nlines", "ünï ✓", "long " * 40_000]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tercet data pack … --json`: exit code and manifest."""

    def pack(source: Path, out: Path, *options: str) -> tuple[int, dict[str, Any]]:
        code = main(["data", "pack", str(source), "--out", str(out), "--workers", "1", "--json", *options])
        printed = capsys.readouterr().out
        return code, json.loads(printed) if printed else {}

    return pack


@pytest.fixture
def table(tmp_path: Path, picture: Picture) -> Path:
    """20 rows of pictures, every other one PNG, with captions that are difficult to parse."""
    (tmp_path / "fotos").mkdir()
    rows = []
    for i in range(20):
        name = f"fotos/ü {i}.{'png' if i % 2 else 'jpg'}"
        (tmp_path / name).write_bytes(picture(i, (40, 30), "png" if i % 2 else "jpeg"))
        rows.append({"file": name, "captions": [CAPTIONS[i % 5], f"number {i}"], "place": {"city": "Köln"}, "n": i})
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def members(folder: Path) -> dict[str, bytes]:
    """Every member of every shard, as tarfile reads them."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read()
    return found


def everything(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_shards_hold_the_unchanged_files_captions_and_metadata(run: Run, table: Path, tmp_path: Path) -> None:
    code, manifest = run(table, tmp_path / "out", "--shard-samples", "6")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    expected: dict[str, object] = {}
    for number, row in enumerate(rows, start=1):
        lines = [" ".join(caption.strip().splitlines()) for caption in row["captions"]]
        broken = {"captions": row["captions"]} if "\n" in row["captions"][0] else {}
        meta = {"place": row["place"], "n": row["n"], **broken, "packed_from": {"row": number, "image": row["file"]}}
        expected[f"{number:09d}.{row['file'][-3:]}"] = (tmp_path / row["file"]).read_bytes()
        expected[f"{number:09d}.txt"] = "\n".join(lines).encode()
        expected[f"{number:09d}.json"] = meta
    found = members(tmp_path / "out")
    assert {k: json.loads(v) if k.endswith("json") else v for k, v in found.items()} == expected
    assert code == 0
    assert [shard["samples"] for shard in manifest["shards"]] == [6, 6, 6, 2]


def test_webdataset_and_our_loader_read_the_same(run: Run, table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "out", "--shard-samples", "7")
    expected: dict[str, dict[str, bytes]] = {}
    for name, data in members(tmp_path / "out").items():
        key, _, extension = name.partition(".")
        expected.setdefault(key, {})[extension] = data
    paths = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    theirs = webdataset.WebDataset(paths, shardshuffle=False)
    assert {s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")} for s in theirs} == expected
    shards = open_shards(str(tmp_path / "out"))
    ids = range(len(shards))
    ours = shards.read(ids, {"jpg", "png", "txt", "json"})
    assert {shards.key(id): files for id, files in zip(ids, ours, strict=True)} == expected
    np.testing.assert_array_equal(shards.counts, [7, 7, 6])


def test_the_manifest_describes_the_shards(run: Run, table: Path, tmp_path: Path) -> None:
    _, manifest = run(table, tmp_path / "out", "--shard-samples", "6")
    out = tmp_path / "out"
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert sorted(p.name for p in out.glob("*.tar")) == [shard["name"] for shard in manifest["shards"]]
    for shard in manifest["shards"]:
        data = (out / shard["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert {p.name for p in out.iterdir() if p.is_file() and p.suffix != ".tar"} == {
        "manifest.json",
        "bad_samples.jsonl",
    }


def test_shards_are_cut_by_the_sizes_of_files(run: Run, tmp_path: Path) -> None:
    """Compares with a naive loop over the sizes."""
    sizes = np.random.default_rng(1).integers(50_000, 700_000, 20).tolist()
    source = tmp_path / "in"
    source.mkdir()
    for i, size in enumerate(sizes):
        wave = np.random.default_rng(i).integers(-9999, 9999, size // 2, dtype=np.int16)
        header = b"RIFF" + (36 + 2 * len(wave)).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
        header += (16_000).to_bytes(4, "little") + (32_000).to_bytes(4, "little") + b"\2\0\x10\0"
        header += b"data" + (2 * len(wave)).to_bytes(4, "little")
        (source / f"{i:02d}.wav").write_bytes(header + wave.tobytes())
    expected, filled = [0], 0
    for i in range(20):
        size = (source / f"{i:02d}.wav").stat().st_size
        if filled + size > 2_000_000:
            expected.append(0)
            filled = 0
        filled += size
        expected[-1] += 1
    _, manifest = run(source, tmp_path / "out", "--shard-mb", "2")
    assert [shard["samples"] for shard in manifest["shards"]] == expected


def test_any_number_of_workers_writes_the_same_bytes(table: Path, tmp_path: Path) -> None:
    for workers in ("1", "3"):
        words = ["data", "pack", str(table), "--size", "20", "--shard-samples", "6", "--workers", workers]
        assert main([*words, "--out", str(tmp_path / workers)]) == 0
    assert everything(tmp_path / "1") == everything(tmp_path / "3")


def spoil(table: Path, picture: Picture) -> dict[str, int]:
    """Adds 10 rows, 9 of which cannot be used; returns the reasons."""
    folder = table.parent / "fotos"
    (folder / "cut.jpg").write_bytes(picture(1, (200, 160), "jpeg")[:2000])
    (folder / "page.jpg").write_bytes(b"<html>")
    (folder / "empty.jpg").write_bytes(b"")
    (table.parent.parent / "outside.jpg").write_bytes(picture(7, format="jpeg"))
    rows: list[dict[str, object]] = [
        {"file": "fotos/cut.jpg", "captions": ["c"]},
        {"file": "fotos/page.jpg", "captions": ["c"]},
        {"file": "fotos/empty.jpg", "captions": ["c"]},
        {"file": "fotos/none.jpg", "captions": ["c"]},
        {"file": "fotos", "captions": ["c"]},
        {"file": "x" * 5000, "captions": ["c"]},
        {"file": "fotos/ü 0.jpg", "captions": []},
        {"file": None, "captions": ["c"]},
        {"file": "../outside.jpg", "captions": ["from above"]},
    ]
    with table.open("a") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
        lines.write("{\n")
    return {
        "image: missing file": 3,
        "image: truncated or damaged": 1,
        "image: not a known format": 1,
        "image: empty file": 1,
        "text: empty": 1,
        "no picture or sound": 1,
        "manifest: not JSON": 1,
    }


def test_left_out_rows_are_reported_and_counted(run: Run, table: Path, tmp_path: Path, picture: Picture) -> None:
    expected = spoil(table, picture)
    code, manifest = run(table, tmp_path / "out", "--shard-samples", "7")
    assert code == 1
    assert manifest["left_out"] == expected
    assert (manifest["rows"], manifest["samples"]) == (30, 21)
    assert sum(shard["samples"] for shard in manifest["shards"]) == 21
    lines = [json.loads(line) for line in (tmp_path / "out" / "bad_samples.jsonl").read_text().splitlines()]
    assert Counter(line["reason"] for line in lines) == expected
    assert [line["row"] for line in lines] == [21, 22, 23, 24, 25, 26, 27, 28, 30]
    assert lines[0]["path"] == "fotos/cut.jpg"
    assert {name.partition(".")[0] for name in members(tmp_path / "out")} == {f"{i:09d}" for i in [*range(1, 21), 29]}


def test_the_user_limits_how_many_rows_may_be_left_out(run: Run, table: Path, tmp_path: Path, picture: Picture) -> None:
    spoil(table, picture)
    assert run(table, tmp_path / "out", "--max-bad", "0.3")[0] == 0
    assert run(table, tmp_path / "out", "--max-bad", "0.29")[0] == 1


def test_folders_are_packed_with_captions_json_and_class(run: Run, tmp_path: Path, picture: Picture) -> None:
    folder = tmp_path / "in" / "dog"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(1))
    (folder / "a.txt").write_bytes("\ufeffein Hund\r\na dog\n".encode())
    (folder / "a.json").write_text('{"author": "é", "class": "Hund"}')
    (folder / "b.png").write_bytes(picture(2))
    (folder / "c.png").write_bytes(picture(3))
    (folder / "c.txt").write_bytes(b"Bl\xfcte")
    (folder / "d.png").write_bytes(picture(4))
    (folder / "d.json").write_text("[1]")
    code, manifest = run(tmp_path / "in", tmp_path / "out")
    found = members(tmp_path / "out")
    assert set(found) == {"dog/a.png", "dog/a.txt", "dog/a.json", "dog/b.png", "dog/b.json"}
    assert found["dog/a.txt"] == (folder / "a.txt").read_bytes()
    meta = json.loads(found["dog/a.json"])
    assert (meta["author"], meta["class"]) == ("é", "Hund")
    assert json.loads(found["dog/b.json"]) == {"class": "dog", "packed_from": {"row": 2, "image": "dog/b.png"}}
    assert (code, manifest["left_out"]) == (1, {"text: not UTF-8": 1, "json: not an object": 1})


def test_a_shard_without_a_usable_row_is_not_written(run: Run, tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    rows = ["a.png", "none.png", "nothing.png", "a.png"]
    (tmp_path / "m.csv").write_text("\n".join(["image", *rows]))
    _, manifest = run(tmp_path / "m.csv", tmp_path / "out", "--shard-samples", "1")
    assert [shard["name"] for shard in manifest["shards"]] == ["000000.tar", "000003.tar"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.tar")) == ["000000.tar", "000003.tar"]


def test_the_same_command_again_changes_nothing(run: Run, table: Path, tmp_path: Path) -> None:
    first = run(table, tmp_path / "out", "--size", "20")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir() if path.is_file()}
    spelt = tmp_path / "fotos" / ".." / table.name
    assert run(spelt, tmp_path / "out", "--size", "20") == first
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir() if path.is_file()}


def test_another_command_into_the_same_folder_is_refused(
    run: Run, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(table, tmp_path / "out", "--size", "20")
    words = ["data", "pack", "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*words, str(table), "--size", "24"]) == 2
    assert "was packed with other options (size 20 there, 24 now)" in capsys.readouterr().err
    assert main([*words, str(table), "--size", "20", "--rate", "8000"]) == 2
    assert "(rate nothing there, 8000 now)" in capsys.readouterr().err
    table.write_text(table.read_text().replace("number 3", "number three"))
    assert main([*words, str(table), "--size", "20"]) == 2
    assert "(its rows or files have changed since)" in capsys.readouterr().err
    shutil.copy(tmp_path / "out" / "000000.tar", tmp_path / "loose.tar")
    assert main(["data", "pack", str(table), "--out", str(tmp_path)]) == 2
    assert "contains other shards" in capsys.readouterr().err


MISTAKES = {
    "--size 0": "`size` is `0`",
    "--size big": "`size` is `big`, but should be a whole number",
    "--quality 101": "`quality` is `101`",
    "image=fiel": "has no column `fiel`; did you mean `file`?",
    "--image file": "does not take `--image`; write a key of the recipe without dashes: image=…",
    "imag=file": "unknown key `imag`; did you mean `image`?",
    "group=image": "to pack a group, name a column, such as group=json.album",
    "group=json.albun": "has no column `albun`",
    "--shard-mb 1 --shard-samples 3": "not allowed with",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_is_an_error_of_one_line(
    options: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "pack", str(table), "--out", str(tmp_path / "out"), *options.split()]) == 2
    assert MISTAKES[options] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_moved_away_from_its_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.csv").write_text("image\na.jpg\nb.jpg\n")
    assert main(["data", "pack", str(tmp_path / "m.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "none of the first 2 files exists" in capsys.readouterr().err


def test_the_output_must_be_a_separate_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], picture: Picture
) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    assert main(["data", "pack", str(tmp_path), "--out", str(tmp_path / "shards")]) == 2
    assert "which would then be packed, too; choose a folder outside of it" in capsys.readouterr().err
    (tmp_path / "m.csv").write_text("image\na.png\n")
    assert main(["data", "pack", str(tmp_path / "m.csv"), "--out", str(tmp_path / "a.png")]) == 2
    assert "cannot be used for the shards: File exists" in capsys.readouterr().err
