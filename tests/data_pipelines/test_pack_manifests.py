"""Reads tables and folders that standard writers wrote."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome, safe_key
from tercet.data_pipelines.manifests.manifest import open_manifest
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.sample import pack_outcome
from tercet.errors import UserError

HARD = [
    'a "quoted" word, and a comma',
    "two\nlines",
    "tab\tand ünïcode ✓",
    "x" * 300_000,
    "; | '",
]


NOTHING_ASKED = Roles()


def entries(path: Path, roles: Roles = NOTHING_ASKED) -> list[Outcome]:
    return list(open_manifest(path, roles).entries())


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], encoding: str = "utf-8") -> Path:
    dialect = "excel-tab" if path.suffix == ".tsv" else "excel"
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), dialect=dialect)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_cells_equal_those_of_the_csv_module(tmp_path: Path, suffix: str, encoding: str) -> None:
    rows = [{"path": f"fotos/ü {i}.jpg", "caption": text, "licence": f"CC {i}"} for i, text in enumerate(HARD)]
    found = entries(write_csv(tmp_path / f"m{suffix}", rows, encoding))
    expected = [
        Entry(i, f"{i:09d}", tmp_path, {"image": row["path"]}, (row["caption"],), {"licence": row["licence"]})
        for i, row in enumerate(rows, start=1)
    ]
    assert found == expected


def test_every_format_of_table_gives_the_same_rows(tmp_path: Path) -> None:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [{"key": f"k{i}", "image": f"{i}.jpg", "text": [f"one {i}", f"two {i}"], "author": "é"} for i in range(5)]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    write_csv(tmp_path / "m.csv", [{**row, "text": json.dumps(row["text"])} for row in rows])
    expected = [
        Entry(i + 1, f"k{i}", tmp_path, {"image": f"{i}.jpg"}, (f"one {i}", f"two {i}"), {"author": "é"})
        for i in range(5)
    ]
    assert entries(tmp_path / "m.jsonl") == entries(tmp_path / "m.parquet") == entries(tmp_path / "m.csv") == expected


def test_parquet_values_that_json_lacks_become_text_or_null(tmp_path: Path) -> None:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    columns = {"image": ["a.jpg"], "day": [__import__("datetime").date(2024, 2, 29)], "score": [float("nan")]}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    (entry,) = entries(tmp_path / "m.parquet")
    assert isinstance(entry, Entry)
    assert entry.meta == {"day": "2024-02-29", "score": None}


GUESSES: dict[str, tuple[dict[str, str], Roles]] = {
    "open_clip's": ({"filepath": "a.jpg", "title": "t"}, Roles(image="filepath", text=("title",))),
    "a file column of sounds": ({"file": "a.wav", "text": "t"}, Roles(audio="file", text=("text",))),
    "both, by ending": ({"path": "a.FLAC", "image": "b.png"}, Roles(image="image", audio="path")),
    "capitals and blanks": ({"Image Path": "a.jpg", "Caption": "t"}, Roles(image="Image Path", text=("Caption",))),
    "numbered captions": (
        {"audio": "a.ogg", "caption_1": "t", "caption_2": "u", "captioner": "me"},
        Roles(audio="audio", text=("caption_1", "caption_2")),
    ),
    "key and group": ({"uid": "7", "jpg": "a.jpg", "group": "g"}, Roles(image="jpg", key="uid", group="group")),
    "a caption rather than a title": (
        {"image": "a.jpg", "title": "T", "caption": "c"},
        Roles(image="image", text=("caption",)),
    ),
}


@pytest.mark.parametrize("case", GUESSES)
def test_columns_are_guessed(tmp_path: Path, case: str) -> None:
    row, expected = GUESSES[case]
    assert open_manifest(write_csv(tmp_path / "m.csv", [row]), Roles()).roles == expected


def test_named_columns_override_guesses(tmp_path: Path) -> None:
    row = {"image": "thumb.jpg", "full": "full.jpg", "caption": "c", "alt": "a", "house": 7}
    path = write_csv(tmp_path / "m.csv", [row])
    asked = Roles(image="full", text=("alt", "caption"), group="house")
    (entry,) = entries(path, asked)
    assert entry == Entry(
        1,
        "000000001",
        tmp_path,
        {"image": "full.jpg"},
        ("a", "c"),
        {
            "image": "thumb.jpg",
            "caption": "c",
            "alt": "a",
            "house": "7",
            "group": "7",
        },
    )


MISTAKES = {
    "a misspelt column": ("m.csv", b"image,caption\na.jpg,c\n", Roles(text=("captoin",)), "did you mean `caption`?"),
    "no files": (
        "m.csv",
        b"url,caption\nhttp://x/y,c\n",
        Roles(),
        "set `image` or `audio` to one (columns: url, caption)",
    ),
    "an open quote": ("m.csv", b'image,caption\na.jpg,"open\nb.jpg,c\n', Roles(), "line 3 cannot be read"),
    "UTF-16": ("m.csv", "image,caption\n".encode("utf-16"), Roles(), "not UTF-8"),
    "a column twice": ("m.csv", b"image,image\n", Roles(), "each once"),
    "nothing": ("m.csv", b"", Roles(), "is empty; its first line must name the columns"),
    "no Parquet": ("m.parquet", b"PAR0", Roles(), "not a Parquet file"),
    "an unknown kind": ("m.jsnl", b"", Roles(), "did you mean `.jsonl`?"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_an_error_of_one_line(tmp_path: Path, case: str) -> None:
    name, data, roles, words = MISTAKES[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        entries(tmp_path / name, roles)
    assert words in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_row_is_left_out_alone(tmp_path: Path) -> None:
    lines = [
        b"image,caption,key",
        b"a.jpg,fine,a",
        b"b.jpg,Bl\xfcte,b",
        b"c.jpg,too,many,cells",
        b",no picture,d",
        b"e.jpg,  ,e",
        b"https://x.org/f.jpg,f,f",
        b"",
        b"g.jpg,again,a",
        b"h.jpg,last,h",
    ]
    (tmp_path / "m.csv").write_bytes(b"\n".join(lines))
    found = entries(tmp_path / "m.csv")
    assert [entry.row for entry in found] == list(range(1, 9))
    assert [entry.key for entry in found if isinstance(entry, Entry)] == ["a", "f", "h"]
    packed = [pack_outcome(PackConfig(), entry) for entry in found[5:6]]  # what is far is no file to pack
    assert [entry for entry in [*found, *packed] if isinstance(entry, LeftOut)] == [
        LeftOut(2, "b.jpg", "not UTF-8"),
        LeftOut(3, "", "manifest: cells unlike the header"),
        LeftOut(4, "", "no picture or sound"),
        LeftOut(5, "e.jpg", "text: empty"),
        LeftOut(7, "g.jpg", "duplicate key"),
        LeftOut(6, "https://x.org/f.jpg", "image: a URL and not a path"),
    ]


def test_json_lines_that_are_not_objects_are_left_out(tmp_path: Path) -> None:
    lines = [
        b'{"wav": "a.wav"}',
        b"{",
        b"[1]",
        b"",
        b'"\xff"',
        b'{"wav": "b.wav", "name": "\\ud800"}',
        b'{"wav": {"bytes": ""}}',
    ]
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(lines))
    found = entries(tmp_path / "m.jsonl")
    assert [(entry.row, getattr(entry, "reason", "kept")) for entry in found] == [
        (1, "kept"),
        (2, "manifest: not JSON"),
        (3, "manifest: not an object"),
        (5, "manifest: not UTF-8"),
        (6, "not UTF-8"),
        (7, "audio: not a path"),
    ]


def test_a_folder_groups_its_files_by_name_and_class(tmp_path: Path) -> None:
    for name in ("b.jpg", "b.txt", "dog/1.PNG", "dog/1.wav", "dog/puppy/v.2.jpg", "dog/puppy/v.2.json", ".cache/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("README.txt", "dog/notes.pdf", "dog/1.jpg"):
        (tmp_path / name).touch()
    os.symlink(tmp_path / "dog" / "puppy", tmp_path / "pups")
    os.symlink(tmp_path, tmp_path / "dog" / "loop")
    manifest = open_manifest(tmp_path, Roles(group="class"))
    found = list(manifest.entries())
    samples_read = [(e.key, dict(e.names), e.meta) for e in found if isinstance(e, Entry)]
    assert samples_read == [
        ("b", {"image": "b.jpg", "text": "b.txt"}, {"group": ""}),
        ("dog/1", {"image": "dog/1.PNG", "audio": "dog/1.wav"}, {"class": "dog", "group": "dog"}),
        (
            "dog/puppy/v%2E2",
            {"image": "dog/puppy/v.2.jpg", "json": "dog/puppy/v.2.json"},
            {"class": "dog/puppy", "group": "dog/puppy"},
        ),
        (
            "pups/v%2E2",
            {"image": "pups/v.2.jpg", "json": "pups/v.2.json"},
            {"class": "pups", "group": "pups"},
        ),
    ]
    assert [e for e in found if isinstance(e, LeftOut)] == [LeftOut(3, "dog/1.jpg", "duplicate key")]
    assert manifest.passed_over == {".txt without a picture or sound": 1, ".pdf": 1}


def test_a_folder_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        open_manifest(tmp_path, Roles(image="path"))


@settings(max_examples=300)
@given(names=st.lists(st.text("ab./%\\\n\x00é", min_size=1, max_size=9), min_size=2, max_size=2, unique=True))
def test_keys_are_safe_and_unique(names: list[str]) -> None:
    keys = [safe_key(name) for name in names]
    for key in filter(None, keys):
        assert not key.startswith("/")
        assert ".." not in key.split("/")
        assert webdataset.tariterators.base_plus_ext(f"{key}.jpg") == (key, "jpg")
    plainly = ["/".join(part for part in name.split("/") if part not in ("", ".")) for name in names]
    assert (keys[0] == keys[1]) == (plainly[0] == plainly[1])
