"""An evaluation says how many of its samples the run was trained on, whatever their files are called."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import tercet
from tercet.command import main
from tercet.data_pipelines.leaks.same_files import SameFiles, same_files
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tests.data_pipelines.web import Web, serving

TOWER = {"width": 32, "heads": 2}
RECIPE = {
    "model.dim": 16,
    "model.image": {"encoder": "small:image", "size": 32, "options": TOWER},
    "model.text": {"encoder": "small:text", "options": TOWER},
    "pairs": {"image-text": 1.0},
    "precision": "fp32",
    "batch_size": 8,
    "steps": 1,
    "data.workers": 0,
    "data.held_out": 0.25,
    "eval.report": False,
}


def table(path: Path, pictures: list[str]) -> None:
    rows = [f"{name},picture number {number}\n" for number, name in enumerate(pictures)]
    path.write_text("path,caption\n" + "".join(rows))


def train(world: World, home: Path) -> None:
    recipe = home / "recipe.yaml"
    recipe.write_text(f"extends: image_text\ndata: {{source: {home / 'photos.csv'}}}\n")
    tercet.train(str(recipe), out=str(home / "run"), **RECIPE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on some of 24 pictures, copies of six of them, and six pictures that it never saw."""
    home = tmp_path_factory.mktemp("home")
    for name in ("photos", "copies"):
        (home / name).mkdir()
    for number in range(30):
        noise = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(home / "photos" / f"{number}.png")
    for number in range(6):
        shutil.copy(home / f"photos/{number}.png", home / f"copies/again_{number}.png")
    table(home / "photos.csv", [f"photos/{number}.png" for number in range(24)])
    table(home / "new.csv", [f"photos/{number}.png" for number in range(24, 30)])
    table(home / "again.csv", [f"copies/again_{number}.png" for number in range(6)])
    on_ranks(train, 1, home)
    return home


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def test_evaluating_on_training_data_gives_a_warning(home: Path) -> None:
    held_out = tercet.evaluate("run").trained_on["val"]
    assert held_out.count == 0
    assert not tercet.evaluate("run").warnings
    whole = tercet.evaluate("run", data="photos.csv")
    known = whole.trained_on["photos.csv"]
    assert (known.count, known.samples) == (24 - held_out.samples, 24)
    (warning,) = whole.warnings
    assert f"run was trained on {known.count} of the 24 samples of photos.csv (same picture or sound)" in warning
    assert warning in " ".join(repr(whole).split())
    assert warning in whole._repr_html_()
    assert {one["dataset"] for one in whole.to_json()} == {"photos.csv"}
    assert whole.to_json()[0]["trained_on"] == {"count": known.count, "samples": 24, "not_compared": []}


def test_all_samples_of_the_split_train_count_as_trained_on(home: Path) -> None:
    found = tercet.evaluate("run", split="train")
    held_out = tercet.evaluate("run", split="val")
    assert found.trained_on["train"].count == 24 - held_out.trained_on["val"].samples
    assert "run was trained on all" in found.warnings[0]
    with pytest.raises(UserError, match="`split` names a split of the run's own data"):
        tercet.evaluate("run", data="new.csv", split="train")


def test_copies_and_shards_of_the_pictures_are_found_and_new_pictures_are_not(home: Path) -> None:
    training = open_source(str(home / "photos.csv"))
    again = open_source(str(home / "again.csv"))
    assert same_files(again, range(6), training).ids == set(range(6))
    assert same_files(training, range(24), again).ids == set(range(6))
    assert same_files(training, range(4, 24), again).ids == {4, 5}
    assert not same_files(open_source(str(home / "new.csv")), range(6), training).ids
    assert main(["data", "pack", "again.csv", "--out", "shards"]) == 0
    shards = open_source(str(home / "shards"))
    assert same_files(shards, range(6), training).ids == set(range(6))
    assert len(same_files(training, range(24), shards).ids) == 6
    assert not tercet.evaluate("run", data="new.csv").warnings


def test_files_behind_urls_are_compared_by_their_urls_and_the_others_are_counted(home: Path, web: Web) -> None:
    """Pictures 0 to 5 are evaluated, from disk or behind URLs; pictures 3 to 8 are trained on."""
    pages = {f"/{number}.png": (home / f"photos/{number}.png").read_bytes() for number in range(9)}
    web.pages.update(pages)
    urls = [f"{web.url}{page}" for page in pages]
    table(home / "evaluated_urls.csv", urls[:6])
    table(home / "evaluated.csv", [f"photos/{number}.png" for number in range(6)])
    table(home / "trained_urls.csv", urls[3:])
    table(home / "trained.csv", [f"photos/{number}.png" for number in range(3, 9)])
    on_disk, remote = (open_source(str(home / name)) for name in ("evaluated.csv", "evaluated_urls.csv"))
    trained_on_disk, trained_remote = (open_source(str(home / name)) for name in ("trained.csv", "trained_urls.csv"))
    assert same_files(remote, range(6), trained_on_disk) == SameFiles({3, 4, 5}, behind_urls=0)
    web.asked.clear()
    assert same_files(remote, range(6), trained_remote) == SameFiles({3, 4, 5}, behind_urls=3)
    assert same_files(on_disk, range(6), trained_remote) == SameFiles(set(), behind_urls=6)
    assert not web.asked, "training data were downloaded"


def test_training_data_behind_urls_give_a_warning(home: Path) -> None:
    config = home / "run" / "config.yaml"
    kept = config.read_text()
    remote = yaml.safe_load(kept)
    table(home / "urls.csv", [f"http://127.0.0.1:9/{number}.png" for number in range(24)])
    remote["data"]["train"]["train"]["source"] = str(home / "urls.csv")
    config.write_text(yaml.safe_dump(remote))
    try:
        (warning,) = tercet.evaluate("run", data="new.csv").warnings
    finally:
        config.write_text(kept)
    expected = (
        r"new\.csv was not compared with all training data of run: source `train`: (\d+) of its \1 samples are behind"
    )
    assert re.match(expected, warning)


def test_a_comparison_warns_for_each_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "run", "run", "--data", "photos.csv"]) == 0
    assert "warning: run was trained on" in capsys.readouterr().out
    assert main(["compare", "run", "run", "--split", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["trained_on"]["run"]["train"]
    assert found["count"] == found["samples"]
    assert main(["eval", "run", "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["trained_on"]["count"] == 0


def test_missing_training_data_give_an_unknown_count(home: Path) -> None:
    (home / "photos.csv").rename(home / "moved.csv")
    try:
        found = tercet.evaluate("run", data="new.csv")
    finally:
        (home / "moved.csv").rename(home / "photos.csv")
    assert "new.csv was not compared with all training data of run: source `train`: " in found.warnings[0]


def test_validation_data_that_overlap_the_training_data_are_found(home: Path) -> None:
    config = home / "run" / "config.yaml"
    kept = config.read_text()
    overlapping = yaml.safe_load(kept)
    overlapping["data"]["val"] = {"val": {"source": str(home / "photos.csv")}}
    config.write_text(yaml.safe_dump(overlapping))
    try:
        found = tercet.evaluate("run").trained_on["val"]
    finally:
        config.write_text(kept)
    assert 0 < found.count < found.samples == 24
