"""How tercet guesses the columns of a table by names and cells, and reads other formats of tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.command import main
from tercet.data_pipelines.manifests.entry import Entry
from tercet.data_pipelines.manifests.manifest import open_manifest
from tercet.data_pipelines.manifests.roles import Roles
from tercet.errors import UserError
from tests.data_pipelines.listed import opened

Picture = Callable[..., bytes]
Sound = Callable[..., bytes]
DEFAULT = Roles()

GUESSES: dict[str, tuple[list[dict[str, Any]], Roles]] = {
    "by their cells": (
        [{"image": "a.png", "speech": "a.wav", "word": "boat"}],
        Roles(image="image", audio="speech", text=("word",)),
    ),
    "names that say nothing": (
        [{"x": "https://none.invalid/a.JPG?size=2", "y": "b.aiff"}],
        Roles(image="x", audio="y"),
    ),
    "most of the cells": (
        [{"a": "notes.txt", "b": "1.png"}, {"a": "", "b": "2.png"}, {"a": "4", "b": None}],
        Roles(image="b"),
    ),
    "languages": (
        [{"path": "a.png", "en": "a dog", "de": "ein Hund", "pt-BR": "um cão", "id": "17"}],
        Roles(image="path", text=("en", "de", "pt-BR")),
    ),
    "languages of a stem": (
        [{"path": "a.png", "words.en": "a dog", "words.de": "ein Hund", "photo_id": "a17"}],
        Roles(image="path", text=("words.en", "words.de")),
    ),
    "languages of a caption": (
        [{"path": "a.png", "caption_en": "a dog", "caption_de": "ein Hund", "caption_of": "me"}],
        Roles(image="path", text=("caption_en", "caption_de")),
    ),
    "languages within a cell": (
        [{"path": "a.png", "said": {"en": "a dog", "de": "ein Hund"}}],
        Roles(image="path", text=("said",)),
    ),
    "a single column named like a language is not enough": (
        [{"path": "a.png", "id": "dog", "is": "yes"}, {"path": "b.png", "id": "cat"}],
        Roles(image="path", text=("id", "is")),
    ),
    "captions alone": ([{"caption": "a dog", "number": "7"}], Roles(text=("caption",))),
    "codes and numbers": ([{"path": "a.png", "id": "dog", "no": "7", "it": "img_7"}], Roles(image="path")),
}


@pytest.mark.parametrize("case", GUESSES)
def test_columns_are_guessed(tmp_path: Path, case: str) -> None:
    rows, expected = GUESSES[case]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert open_manifest(tmp_path / "m.jsonl", DEFAULT).roles == expected


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_columns_with_the_bytes_of_files_are_recognised(
    tmp_path: Path, picture: Picture, sound: Sound, ending: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    kinds = ["png", "gif", "webp", "bmp", "tiff", "jpeg"]
    waves = [sound(np.zeros(800), 8000, kind) for kind in ("WAV", "FLAC", "OGG", "AIFF", "MP3", "WAV")]
    table = pa.table(
        {
            "thumb": [picture(i, format=kind) for i, kind in enumerate(kinds)],
            "take": [{"bytes": wave, "path": None} for wave in waves],
            "score": [b"ab"] * 6,
        }
    )
    path = tmp_path / f"m.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    assert open_manifest(path, DEFAULT).roles == Roles(image="thumb", audio="take")


def test_columns_of_several_languages_are_all_captions(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    row = {"path": "a.png", "said": {"en": ["a dog", "a hound"], "de": "ein Hund"}}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    source = str(tmp_path / "m.jsonl")
    assert opened(source=source).read([0], ["txt"]) == [{"txt": b"a dog\na hound\nein Hund"}]
    assert opened(source=source, text="said.de").read([0], ["txt"]) == [{"txt": b"ein Hund"}]
    with pytest.raises(UserError, match=r"has no column `sad`; did you mean `said`"):
        opened(source=source, text="sad.de")


SPOKEN: dict[str, tuple[dict[str, Any], object]] = {
    "columns": ({"caption_en": "a dog", "caption_pt-BR": "um cão", "caption_de": ""}, ["en", "pt-BR"]),
    "parts of a cell": ({"said": {"en": ["a dog", "a hound"], "de": "ein Hund", "fr": None}}, ["en", "en", "de"]),
    "JSON in a cell": ({"caption": '{"en": "a dog", "de": ["ein Hund", " "]}'}, ["en", "de"]),
    "some columns": ({"caption": "a dog", "caption_de": "ein Hund"}, None),
    "a column of its own": ({"caption_en": "a dog", "caption_de": "ein Hund", "language": "both"}, "both"),
    "captions that name none": ({"caption": ["a dog", "{a hound"]}, None),
}


@pytest.mark.parametrize("case", SPOKEN)
def test_the_languages_of_captions_are_known_as_far_as_the_table_names_them(tmp_path: Path, case: str) -> None:
    row, languages = SPOKEN[case]
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a.png", **row}))
    (entry,) = open_manifest(tmp_path / "m.jsonl", DEFAULT).entries()
    assert isinstance(entry, Entry)
    assert entry.meta.get("language") == languages
    assert not isinstance(languages, list) or len(languages) == len(entry.captions)


def test_a_table_with_one_modality_gets_a_hint_how_to_add_another(
    tmp_path: Path, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    (tmp_path / "m.csv").write_text("image,blurb,score\n" + "a.png,a boat,1\n" * 40)
    message = (
        "every sample has image alone, and training needs two modalities; add captions. "
        "Columns that are not used: blurb, score; name one, as text=blurb"
    )
    assert main(["data", "check", str(tmp_path / "m.csv"), "--workers", "1"]) == 0
    assert f"note: {message}" in capsys.readouterr().out
    assert main(["recipes", "new", "--data", str(tmp_path / "m.csv")]) == 2
    assert f"m.csv: {message}" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "m.csv"), "text=blurb", "--workers", "1"]) == 0
    assert "alone" not in capsys.readouterr().out


ROWS = [("a.png", "a boat; red, and\nold"), ("a.png", 'the "second"; one'), ("a.png", "a dog")]
TABLES: dict[str, tuple[str, str]] = {
    "commas": ("m.csv", ","),
    "semicolons": ("m.csv", ";"),
    "tabs in a CSV": ("m.csv", "\t"),
    "commas in a TSV": ("m.tsv", ","),
    "tabs": ("m.tsv", "\t"),
}


@pytest.mark.parametrize("case", TABLES)
def test_the_delimiter_is_found(tmp_path: Path, picture: Picture, case: str) -> None:
    import csv

    name, delimiter = TABLES[case]
    (tmp_path / "a.png").write_bytes(picture(0))
    with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([("path", "caption"), *ROWS])
    assert captions(tmp_path / name) == [caption for _, caption in ROWS]


def captions(path: Path) -> list[str]:
    source = opened(source=str(path))
    files = source.read(range(len(source)), ["txt", "json"])
    metas = [json.loads(dict(one)["json"]) for one in files]
    return [meta.get("captions", [dict(one)["txt"].decode()])[0] for meta, one in zip(metas, files, strict=True)]


def test_json_is_an_array_of_objects_or_lines(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    rows = [{"path": path, "caption": caption} for path, caption in ROWS]
    path = tmp_path / "m.json"
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=2),
        "\ufeff" + json.dumps(rows),
        "\n".join(map(json.dumps, rows)),
    ):
        path.write_text(text, encoding="utf-8")
        assert captions(path) == [caption for _, caption in ROWS]
    assert main(["data", "pack", str(path), "--out", str(tmp_path / "shards"), "--workers", "1"]) == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"data": [{"path": "a.png"}]', "expected an array of objects"),
        ('{\n "path": "a.png"}', "expected an array of objects"),
        ('[{"path": "a.png"} {"path": "b.png"}]', "expected a comma at character 19"),
        ('[{"path": "a.png"}, ', "not valid JSON"),
        ("[1, 2]", "no column seems to name or hold pictures"),
        ("[]", "has no rows"),
        ("", "expected an array of objects"),
    ],
)
def test_json_that_is_not_a_table_is_an_error_of_one_line(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match=error):
        opened(source=str(tmp_path / "m.json"))


def test_a_table_of_captions_that_may_name_files_must_say_so(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("url,caption\nhttp://x/y,a dog\n")
    with pytest.raises(UserError, match="or `text` if there are captions only"):
        open_manifest(tmp_path / "m.csv", DEFAULT)
    assert open_manifest(tmp_path / "m.csv", Roles(text=("caption",))).roles.media == {}


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("a photo of a {}.", "instrument", "a photo of an instrument."),
        ("a photo of a {}.", "dog", "a photo of a dog."),
        ("A {}", "Otter", "An Otter"),
        ("a {}", "unicycle", "a unicycle"),
        ("a {}", "umbrella", "an umbrella"),
        ("This is a sound of {}.", "owl", "This is a sound of owl."),
    ],
)
def test_articles_agree_with_classes(tmp_path: Path, picture: Picture, template: str, name: str, expected: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "0.png").write_bytes(picture(0))
    assert opened(source=str(tmp_path), templates=template).read([0], ["txt"]) == [{"txt": expected.encode()}]
