"""Splits of one source into training and validation samples, and their options in a recipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sources.open import open_split
from tercet.errors import UserError
from tercet.training.recipe import dump, load_recipe
from tests.data_pipelines.listed import write_csv

Picture = Callable[..., bytes]
ROWS = 600


def halves(data: DataConfig) -> list[list[tuple[str, dict[str, Any]]]]:
    """The key and the row of each sample, for the training and the validation part."""
    return [
        [
            (source.key(id), json.loads(files["json"]))
            for id, files in enumerate(source.read(range(len(source)), ["json"]))
            if isinstance(files, dict)
        ]
        for source in (open_split(data, data.train["train"]), open_split(data, data.val["val"]))
    ]


def table(folder: Path, **columns: Callable[[int], str]) -> Path:
    (folder / "0.jpg").write_bytes(b"x")
    rows = [
        {"path": "0.jpg", "caption": f"c {i}", "number": str(i), **{name: of(i) for name, of in columns.items()}}
        for i in range(ROWS)
    ]
    return write_csv(folder / "m.csv", rows)


SPLITS: dict[str, tuple[dict[str, Any], dict[str, Callable[[int], str]], Callable[[int], object]]] = {
    "group": ({}, {"group": lambda i: f"g{i // 3}"}, lambda i: i // 3),
    "another column": ({"group": "json.album"}, {"album": lambda i: f"a{i % 150}"}, lambda i: i % 150),
    "captions": ({"group": "text"}, {"caption": lambda i: f"Word {i // 4}"}, lambda i: i // 4),
    "the same picture": ({}, {"path": lambda i: "./" * (i % 2) + f"{i // 5}.jpg"}, lambda i: i // 5),
}


@pytest.mark.parametrize("case", SPLITS)
def test_no_group_is_on_both_sides(tmp_path: Path, case: str) -> None:
    settings, columns, group = SPLITS[case]
    for i in range(ROWS):
        (tmp_path / f"{i}.jpg").write_bytes(b"x")
    data = DataConfig.model_validate({"source": str(table(tmp_path, **columns)), "held_out": 0.3, **settings})
    numbers = [[int(row["number"]) for _, row in half] for half in halves(data)]
    assert sorted(numbers[0] + numbers[1]) == list(range(ROWS))
    assert 0.2 < len(numbers[1]) / ROWS < 0.4
    assert not {group(i) for i in numbers[0]} & {group(i) for i in numbers[1]}


def test_pictures_with_equal_content_are_a_group(tmp_path: Path, picture: Picture) -> None:
    """The files have different names, and each is read once."""
    for i in range(60):
        (tmp_path / f"{i}.jpg").write_bytes(picture(i // 3, format="jpeg"))
    rows = [{"path": f"{i}.jpg", "caption": "c", "number": str(i)} for i in range(60)]
    source = str(write_csv(tmp_path / "m.csv", rows))
    data = DataConfig.model_validate({"source": source, "held_out": 0.4, "group": "image"})
    numbers = [{int(row["number"]) // 3 for _, row in half} for half in halves(data)]
    assert numbers[0] | numbers[1] == set(range(20))
    assert not numbers[0] & numbers[1]


@pytest.mark.parametrize(
    "settings", [{}, {"group": "text", "split_by": "file"}], ids=["by default", "by their captions"]
)
def test_class_folders_hold_out_pictures_and_not_classes(tmp_path: Path, settings: dict[str, Any]) -> None:
    for i in range(200):
        (tmp_path / f"kind {i % 4}").mkdir(exist_ok=True)
        (tmp_path / f"kind {i % 4}" / f"{i}.jpg").write_bytes(b"x")
    learned, held = halves(DataConfig.model_validate({"source": str(tmp_path), "held_out": 0.3, **settings}))
    assert {row["class"] for _, row in learned} == {row["class"] for _, row in held} == {f"kind {i}" for i in range(4)}
    assert len({key for key, _ in learned} | {key for key, _ in held}) == len(learned) + len(held) == 200
    assert 0.2 < len(held) / 200 < 0.4


@pytest.mark.parametrize("own", [False, True], ids=["no group", "groups"])
def test_samples_with_the_same_class_caption_are_a_group(tmp_path: Path, own: bool) -> None:
    """All captions of a class from a template are equal. A group column in the table has priority."""
    columns: dict[str, Callable[[int], str]] = {"label": lambda i: f"kind {i % 4}", "path": lambda i: f"{i}.jpg"}
    if own:
        columns["group"] = lambda i: f"g{i // 3}"
    path = table(tmp_path, **columns)
    settings = {"source": str(path), "held_out": 0.3, "text": "label", "templates": "a photo of a {}."}
    learned, held = halves(DataConfig.model_validate(settings))
    groups = {int(row["number"]): row["group"] for _, row in learned + held}
    assert groups == {i: f"g{i // 3}" if own else f"kind {i % 4}" for i in range(ROWS)}
    assert bool({row["group"] for _, row in learned} & {row["group"] for _, row in held}) != own


def test_group_text_holds_out_whole_classes(tmp_path: Path) -> None:
    path = table(tmp_path, label=lambda i: f"kind {i % 40}", path=lambda i: f"{i}.jpg")
    settings = {"source": str(path), "held_out": 0.3, "text": "label", "templates": "a {}", "group": "text"}
    learned, held = halves(DataConfig.model_validate(settings))
    assert {row["group"] for _, row in learned}.isdisjoint(row["group"] for _, row in held)
    assert 0 < len(held) < ROWS / 2


def test_a_row_stays_on_its_side_when_rows_are_added(tmp_path: Path) -> None:
    path = table(tmp_path, group=lambda i: f"g{i}")
    data = DataConfig.model_validate({"source": str(path)})
    before = {row["number"] for _, row in halves(data)[1]}
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + f"0.jpg,new,-1,new\n{''.join(lines[1:])}")
    assert {row["number"] for _, row in halves(data)[1]} - {"-1"} == before


def test_bad_rows_are_on_one_side_too(tmp_path: Path) -> None:
    path = table(tmp_path, caption=lambda i: "" if i % 2 else "c", path=lambda i: f"{i}.jpg")
    (tmp_path / "2.jpg").write_bytes(b"x")
    data = DataConfig.model_validate({"source": str(path), "held_out": 0.5})
    sources = [open_split(data, data.train["train"]), open_split(data, data.val["val"])]
    keys = [source.key(id) for source in sources for id in range(len(source))]
    assert sorted(keys) == sorted(f"row {i}" for i in range(1, ROWS + 1))


def test_an_empty_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    data = DataConfig.model_validate({"source": str(tmp_path), "held_out": 1e-6})
    with pytest.raises(UserError, match=r"has none of its 1 row in the part .*; widen it"):
        open_split(data, data.val["val"])


def parts(*overrides: str) -> dict[str, Any]:
    """The source and the part of each split of a recipe."""
    data = load_recipe("image_text", overrides).data
    assert data.workers == 4  # what the recipe says besides still holds
    return {name: (split.source, split.part) for name, split in {**data.train, **data.val}.items()}


WAYS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "data alone": (["data=p.csv"], {"train": ("p.csv", (0.1, 1)), "val": ("p.csv", (0, 0.1))}),
    "a key more": (
        ["data.source=p.csv", "data.held_out=0.25"],
        {"train": ("p.csv", (0.25, 1)), "val": ("p.csv", (0, 0.25))},
    ),
    "nothing held out": (["data=p.csv", "data.held_out=0"], {"train": ("p.csv", None)}),
    "a table for each": (["data.train=p.csv", "data.val=q.csv"], {"train": ("p.csv", None), "val": ("q.csv", None)}),
    "another held out": (["data=p.csv", "data.val=q.csv"], {"train": ("p.csv", None), "val": ("q.csv", None)}),
    "the last word": (["data=p.csv", "data.train=q.csv", "data.val=v"], {"train": ("q.csv", None), "val": ("v", None)}),
    "train alone": (["data.train=p.csv"], {"train": ("p.csv", (0.1, 1)), "val": ("p.csv", (0, 0.1))}),
    "val first": (["data.val=q.csv", "data.train=p.csv"], {"train": ("p.csv", None), "val": ("q.csv", None)}),
    "val before data": (["data.val=q.csv", "data=p.csv"], {"train": ("p.csv", None), "val": ("q.csv", None)}),
    "written out": (
        ["data.train.source=p.csv", "data.train.image=path"],
        {"train": ("p.csv", (0.1, 1)), "val": ("p.csv", (0, 0.1))},
    ),
    "lists": (
        ["data=[p.csv, q.csv]"],
        {"train": (("p.csv", "q.csv"), (0.1, 1)), "val": (("p.csv", "q.csv"), (0, 0.1))},
    ),
    "by name": (
        ["data.train.photos=p.csv", "data.train.more=q.csv", "data.val=v"],
        {"photos": ("p.csv", None), "more": ("q.csv", None), "val": ("v", None)},
    ),
    "no longer by name": (
        ["data.train={photos: p.csv, more: q.csv}", "data.train=r.csv", "data.val=v"],
        {"train": ("r.csv", None), "val": ("v", None)},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_source_can_be_set_in_several_ways(way: str) -> None:
    settings, expected = WAYS[way]
    assert parts(*settings) == expected


TOGETHER = {
    "data": ("data=p.csv", "data.image=there"),
    "train": ("data.train=p.csv", "data.train.image=there"),
    "a list": ("data.train=[p.csv, q.csv]", "data.train.image=there"),
    "a name": ("data.train.train=p.csv", "data.train.train.image=there"),
    "the only name": ("data.train={train: {source: p.csv}}", "data.train.image=there"),
}


@pytest.mark.parametrize("way", TOGETHER)
def test_a_source_and_its_columns_can_be_set_in_either_order(way: str) -> None:
    first, second = TOGETHER[way]
    data = load_recipe("image_text", [first, second]).data.train["train"]
    assert (data.source in ("p.csv", ("p.csv", "q.csv")), data.image) == (True, "there")
    if "{" not in first:
        assert load_recipe("image_text", [second, first]).data.train["train"] == data


def test_a_split_source_survives_saving_the_config(tmp_path: Path) -> None:
    settings = ["data={source: p.csv, image: file, text: [a, b], templates: 'a {}', held_out: 0.2, group: json.house}"]
    config = load_recipe("image_text", settings)
    assert config.data.val["val"].image == config.data.train["train"].image == "file"
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load_recipe(str(tmp_path / "again.yaml")).data == config.data


MISTAKES = {
    "data={source: a.csv, train: b.csv}": "`data.source` and `data.train` both name the training data",
    "data={source: a.csv, held_out: 2}": "`data.held_out` is `2`; give a share from 0 to below 1",
    "data={source: a.csv, imgae: x}": "unknown key `data.imgae`; did you mean `image`?",
    "data={source: a.csv, heldout: 0.2}": "unknown key `data.heldout`; did you mean `held_out`?",
    "data.sorce=a.csv": "unknown key `data.sorce`; did you mean `source`?",
    "data.train.imag=path": "`data.train.imag` is not an option of a source; did you mean `image`?",
    "data.train={source: a.csv, wieght: 2}": "`data.train.wieght` is not an option of a source; did you mean `weight`?",
    "data={train: a.csv, image: x}": "`data.image` is an option of a single source; name the source as",
    "data={source: a.csv, train: {image: x}}": "`data.source` and `data.train` both name the training data",
    "data={source: a.csv, templates: [a photo]}": "`a photo` has no slot {} for a name; write it as a photo of a {}.",
    "data.train={source: a.csv, part: [1, 0]}": "[1, 0] is not a part of [0, 1]; give two numbers, smallest first",
}


@pytest.mark.parametrize("settings", MISTAKES)
def test_a_mistake_is_an_error_of_one_line(settings: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("image_text", [settings])
    assert MISTAKES[settings] in str(error.value)
