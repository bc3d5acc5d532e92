"""A table with every kind of fault: each bad row is logged, and the run continues or stops like for shards."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.command import main
from tercet.configs.base import Misfit
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.source import say_once
from tercet.data_pipelines.preflight.declared import check_columns, check_source
from tercet.data_pipelines.shorthand import split_in_two
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError
from tests.data_pipelines.listed import config, loader, opened, photos, taken, write_csv

GOOD = 40
EXPECTED = {  # the reason and the file of each bad row
    41: ("image: missing file", "gone.jpg"),
    42: ("image: not a known format", "page.jpg"),
    43: ("image: truncated or damaged", "cut.jpg"),
    44: ("text: empty", ""),
    46: ("no picture or sound", ""),
    47: ("image: empty file", "empty.jpg"),
    48: ("image: missing file", "."),
    49: ("image: a URL of no known kind", "pipe://[rm -rf"),
}


@pytest.fixture
def table(tmp_path: Path, picture: Callable[..., bytes]) -> Path:
    """40 good rows and 10 bad ones, of which one repeats a good one."""
    rows = photos(tmp_path, picture, GOOD)
    (tmp_path / "page.jpg").write_bytes(b"<html>not found</html>")
    (tmp_path / "cut.jpg").write_bytes(picture(1, (400, 300), "jpeg")[:900])
    (tmp_path / "empty.jpg").write_bytes(b"")
    faulty = [
        ("gone.jpg", "a caption"),
        ("page.jpg", "a caption"),
        ("cut.jpg", "a caption"),
        (rows[0]["path"], "  "),
        (rows[6]["path"], rows[6]["caption"]),
        ("", "a caption"),
        ("empty.jpg", "a caption"),
        (".", "a caption"),
        ("pipe://someone:secret@[rm -rf?token=secret", "a caption"),
        ("./" + rows[7]["path"], rows[7]["caption"]),
    ]
    rows += [{"path": path, "caption": caption, "group": "", "score": ""} for path, caption in faulty]
    return write_csv(tmp_path / "photos.csv", rows)


def test_each_bad_row_is_logged_and_the_run_continues(table: Path, tmp_path: Path) -> None:
    training = loader(config(source=str(table)), 10, folder=tmp_path)
    seen = {id for batch in taken(training, 20) for id in batch.ids.tolist()}
    good = {*range(GOOD), 44, 49}
    assert seen == good
    assert logged(tmp_path / "bad_samples.jsonl") == expected(table)
    assert training.bad_log.seen == 200 + training.bad.total()


def logged(path: Path) -> set[tuple[object, ...]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {tuple(line[name] for name in ("shard", "key", "id", "reason", "file")) for line in lines}


def expected(table: Path) -> set[tuple[object, ...]]:
    return {
        (str(table), f"row {row}", row - 1, reason, placed(file, table)) for row, (reason, file) in EXPECTED.items()
    }


def placed(file: str, table: Path) -> str:
    return f"{table.parent}/{file}" if file and "://" not in file else file


def test_too_many_bad_rows_stop_the_run(table: Path, tmp_path: Path) -> None:
    data = config({"workers": 0, "streams": 4, "max_bad": 0.01}, source=str(table))
    with pytest.raises(UserError, match=r"samples are bad, more than data.max_bad = 0.01 .*listed in .*bad_samples"):
        taken(loader(data, 10, folder=tmp_path), 20)


def test_guessed_columns_and_repeated_rows_are_printed_once(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_once.cache_clear()
    for _ in range(2):
        opened(source=str(table))
    assert capsys.readouterr().err.splitlines() == [
        f"tercet: {table}: image from `path`, text from `caption`, group from `group`; 50 rows",
        f"tercet: {table}: rows that cannot be used: 1 × text: empty, 1 × no picture or sound",
        f"tercet: {table}: rows that repeat another one, with the same file and caption: 2, first row 45 in {table}",
    ]


def test_bad_rows_keep_their_ids(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    lines = ["uid,image,caption", "u,a.jpg,one", "u,b.jpg,two", "w,a.jpg,three,four", ",b.jpg,five", "v,b.jpg,six"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    source = opened(source=str(tmp_path / "m.csv"))
    assert [source.key(id) for id in range(5)] == ["u", "row 2", "row 3", "row 4", "v"]
    logged = [found.reason for found in source.read(range(5), ["txt"]) if isinstance(found, BadSample)]
    assert logged == ["duplicate key", "manifest: cells unlike the header", "no key"]


MISTAKES = {
    "a misspelt column": ({"text": "captoin"}, "photos.csv has no column `captoin`; did you mean `caption`?"),
    "a misspelt table": ({"source": "photo.csv"}, "the table .*photo.csv does not exist; did you mean `.*photos.csv`"),
    "nothing to match": ({"source": "none/**/*.jpg"}, "no file matches .*; name a folder, a pattern"),
    "tables and shards": ({"source": ["photos.csv", "a.tar"]}, "is not a shard, but others in the list are"),
    "a table twice": ({"source": ["photos.csv", "photos.csv"]}, "is named twice"),
    "no saved data set": ({"source": "hf:fotos ü"}, "was not written by `save_to_disk` of `datasets`"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_an_error_of_one_line_before_an_index_is_built(
    table: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, words = MISTAKES[case]
    monkeypatch.chdir(table.parent)
    with pytest.raises(UserError, match=words) as error:
        check_source(config(**{"source": "photos.csv", **settings}).train["train"], OpenedSources())  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_modality_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,blurb\na.jpg,a caption\n")
    (tmp_path / "n.csv").write_text("file,caption\na.jpg,a caption\n")
    alone, both = config(source=str(tmp_path / "m.csv")), {name: str(tmp_path / f"{name}.csv") for name in "mn"}
    with pytest.raises(UserError, match=r"m.csv is known to hold text, .* with `text` \(columns: file, blurb\)"):
        check_columns(alone, ["image", "text.rewrite"], OpenedSources())
    check_columns(alone, ["image"], OpenedSources())
    check_columns(config(source=str(tmp_path / "m.csv"), text="blurb"), ["image", "text"], OpenedSources())
    check_columns(
        config(source=str(tmp_path / "m.csv"), captions={"json.blurb": 1}), ["image", "text"], OpenedSources()
    )
    check_columns(config(**{name: {"source": path} for name, path in both.items()}), ["image", "text"], OpenedSources())


def test_a_table_whose_files_are_all_missing_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,caption\n" + "gone.jpg,c\n" * 100)
    with pytest.raises(UserError, match=r"none of the first 100 files exists, beginning with .*gone\.jpg"):
        opened(source=str(tmp_path / "m.csv"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no samples"):
        opened(source=str(tmp_path))
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.tar").touch()
    with pytest.raises(UserError, match=r"folders within it have shards; name one, such as .*test$"):
        opened(source=str(tmp_path))
    (tmp_path / "piece_00000000.safetensors").touch()
    with pytest.raises(UserError, match=r"it holds embeddings; name the data that they were computed from$"):
        opened(source=str(tmp_path))


def test_a_table_in_another_encoding_says_how_to_save_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "m.csv").write_bytes("path,caption\na.jpg,für\n".encode("latin-1"))
    say_once.cache_clear()
    source = opened(source=str(tmp_path / "m.csv"))
    assert capsys.readouterr().err.endswith("rows that cannot be used: 1 × not UTF-8; save the table as UTF-8\n")
    assert source.lacking == ""  # nothing to add to rows that cannot be read


@pytest.mark.parametrize("option", [{"image": "path"}, {"templates": "a {}"}])
def test_options_of_tables_are_refused_for_shards(tmp_path: Path, option: dict[str, object]) -> None:
    (name,) = option
    (tmp_path / "0.tar").touch()
    with pytest.raises(UserError, match=f"`{name}` does not apply to .*, which are shards: "):
        check_source(config(source=str(tmp_path / "0.tar"), **option).train["train"], OpenedSources())


def test_a_table_is_not_streamed(table: Path) -> None:
    from tercet.data_pipelines.open import open_loader
    from tercet.distributed import World

    data = config({"mode": "stream"}, source=str(table))
    with pytest.raises(UserError, match=r"data\.train\.train is not a set of shards.*set data\.mode=index"):
        open_loader(data, {}, 8, 0, World(), {}, table.parent)


def test_check_names_every_bad_row_and_its_file_and_notes_repeated_ones(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report" / "check.html"
    assert main(["data", "check", str(table), "--workers", "1", "--out", str(page)]) == 1
    assert logged(page.with_name("bad_samples.jsonl")) == expected(table)
    shown = capsys.readouterr().out
    for key, file in ((key, file) for _, key, _, _, file in expected(table) if file):
        assert f"{key}({file})".replace(" ", "") in "".join(shown.split())
        assert f"{key} ({file})" in page.read_text()
    repeated = f"row 45 ({tmp_path}/fotos ü/0/6.jpg), row 50 ({tmp_path}/./fotos ü/1/7.jpg)"
    note = f"2 × row: another one before it has the same file and caption: {repeated}"
    assert f"note: {note}" in shown
    assert f"Note: {note}" in page.read_text()
    assert "secret" not in shown + page.read_text()


def test_repeated_rows_are_not_bad(
    tmp_path: Path, picture: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(0, format="jpeg"))
    (tmp_path / "m.csv").write_text("path,caption\n" + "a.jpg,a boat\n" * 3)
    assert main(["data", "check", str(tmp_path / "m.csv"), "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["bad"], found["notes"]) == (0, {"row: another one before it has the same file and caption": 2})
    (tmp_path / "m.csv").write_text("path,caption\na.jpg,a boat\n")
    assert main(["data", "check", str(tmp_path / "m.csv"), "--workers", "1"]) == 0
    assert "✓ Nothing is wrong. 1 sample can be used." in capsys.readouterr().out


def test_data_check_takes_names_of_columns(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    for i in (0, 1):
        (tmp_path / f"{i}.jpg").write_bytes(picture(i, format="jpeg"))
    for i in (0, 1):
        (tmp_path / f"{i}.jpg").rename(tmp_path / f"{i}")
    (tmp_path / "m.csv").write_text("there,said\n0,a caption\n1,\n")
    check = ["data", "check", str(tmp_path / "m.csv"), "--workers", "1"]
    assert main(check) == 2
    assert main([*check, "image=there"]) == 0
    assert main([*check, "image=there", "text=said"]) == 1


@pytest.mark.parametrize(
    ("words", "logged"),
    [
        ("image=file", "DATA is missing"),
        ("DATA imag=there", "unknown key `imag`; did you mean `image`?"),
        ("DATA group=json.albun", "no other column `albun`"),
        ("shards image=there", "shards does not exist; name a folder, a table, or shards"),
    ],
)
def test_commands_take_the_same_options_as_a_recipe(
    words: str, logged: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", *words.replace("DATA", str(table)).split()]) == 2
    assert logged in capsys.readouterr().err


def test_a_file_name_may_look_like_an_option(
    tmp_path: Path, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "year=2024").mkdir()
    (tmp_path / "year=2024" / "0.jpg").write_bytes(picture(0, format="jpeg"))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", "year=2024", "--workers", "1"]) == 0


def test_stats_and_leaks_read_tables_too(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "copy.jpg").write_bytes((tmp_path / "fotos ü/1/7.jpg").read_bytes())
    (tmp_path / "held" / "copy.txt").write_text("something else")
    assert main(["data", "stats", str(table), "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 50
    assert main(["data", "leaks", str(table), str(tmp_path / "held"), "--workers", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["leaks"] == {"image: same file": {"pairs": 2, "eval_samples": 1}}


def test_leaks_applies_columns_to_tables_only(
    tmp_path: Path, picture: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "0.jpg").write_bytes(picture(0, format="jpeg"))
    (tmp_path / "m.csv").write_text("there,said\nheld/0.jpg,a caption\n")
    table, folder = str(tmp_path / "m.csv"), str(tmp_path / "held")
    for sides in ((table, folder), (folder, table), (table, table)):
        assert main(["data", "leaks", *sides, "image=there", "text=said", "--workers", "1", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["leaks"]["image: same file"] == {"pairs": 1, "eval_samples": 1}
    assert main(["data", "leaks", folder, folder, "image=there"]) == 2
    assert "is a folder, so columns do not apply to it" in capsys.readouterr().err


def test_data_index_refuses_tables(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "index", str(table)]) == 2
    assert "is not a set of shards; tables and folders need no command" in capsys.readouterr().err


def test_a_table_without_rows_or_split_by_shard_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("path,caption\n")
    with pytest.raises(UserError, match=r"a\.csv has no rows"):
        opened(source=str(table))
    table.write_text("path|caption\n1.jpg|a boat\n")
    with pytest.raises(UserError, match=r"separated by `\|`; separate them by commas, semicolons or tabs"):
        opened(source=str(table))


def test_a_check_shows_which_rows_are_bad(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with table.open("a") as rows:
        rows.writelines(f"gone{number}.jpg,a caption,,\n" for number in range(6))
    assert main(["data", "check", str(table), "--workers", "1"]) == 1
    shown = capsys.readouterr().out
    assert "row 43" in shown
    assert "…" in shown
    assert "--out FILE.html lists each of them." in shown
    page = table.parent / "page" / "check.html"
    assert main(["data", "check", str(table), "--workers", "1", "--out", str(page)]) == 1
    assert "bad_samples.jsonllistseachofthem." in "".join(capsys.readouterr().out.split())


def test_a_group_without_a_column_is_refused(table: Path) -> None:
    check_source(config(source=str(table), group="json.score").train["train"], OpenedSources())
    check_source(config(source=str(table), group="text").train["train"], OpenedSources())
    with pytest.raises(UserError, match=r"no other column `scor`; did you mean `score`\?"):
        check_source(config(source=str(table), group="json.scor").train["train"], OpenedSources())
    with pytest.raises(UserError, match="no other column `path`"):
        check_source(config(source=str(table), group="json.path").train["train"], OpenedSources())


def test_part_and_held_out_together_are_refused() -> None:
    with pytest.raises(Misfit, match=r"`data\.held_out` split the same source"):
        split_in_two({"source": "a.csv", "part": [0, 0.5]}, ("source", "part"), ("source", "part"))


@pytest.mark.parametrize("data", [{"held_out": 0.1}, {"held_out": 0.1, "train": "a.csv"}])
def test_held_out_needs_a_source(data: dict[str, object]) -> None:
    with pytest.raises(Misfit, match=r"name the source as `data\.source`"):
        split_in_two(data, (), ())
