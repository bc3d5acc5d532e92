"""A dry run fails on what the run would fail on before its first step, and writes and trains nothing."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tercet.command import main
from tercet.data_pipelines.preflight import quick_open
from tercet.distributed import World
from tercet.errors import UserError
from tercet.training.config import RunConfig
from tercet.training.folder import open_folder
from tercet.training.preflight.checks import dry_run
from tercet.training.run import train
from tests.data_pipelines.listed import write_csv
from tests.training.tiny import MODEL, recipe


@pytest.fixture
def data(world_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """The world, none of it indexed."""
    copy = shutil.copytree(world_folder, tmp_path / "world", ignore=shutil.ignore_patterns(".index"))
    yield copy
    assert not (tmp_path / "run" / "checkpoints").exists()


def rehearsed(data: Path, /, **changes: Any) -> tuple[RunConfig, list[str]]:
    return dry_run(RunConfig.model_validate(recipe(data, data.parent / "run", **changes)))


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an objective's option": ({"objective": {"name": "infonce", "smoothin": 1}}, "has no option `smoothin`"),
    "a value of the data": ({"objective": "graded"}, r"`graded` uses the value `relevance`.*data.values={relevance: j"),
    "a mark of bad samples": (
        {"selection": {"name": "random", "filter_ratio": 0.5, "bad": "wrong"}},
        "selection.bad: `wrong` is none of data.values. Say where it is, such as data.values={wrong: json.wrong}",
    ),
    "an objective": ({"objective": "infonec"}, "unknown objective `infonec`; did you mean `infonce`"),
    "an optimizer": ({"optimizer": {"name": "adamm"}}, "unknown optimizer `adamm`; did you mean `adamw`"),
    "a family of towers": ({"model": {**MODEL, "image": {"encoder": "smal:image"}}}, "`smal`; did you mean `small`"),
    "no steps": ({"steps": 0}, "`steps` is 0, which evaluates `init` without training; give `init`"),
    "a tower": ({"model": {**MODEL, "image": {"encoder": "small:imag"}}}, "no small image tower is named `imag`"),
    "a tower of open_clip": ({"model": {**MODEL, "text": {"encoder": "open_clip:ViT-B-33"}}}, "mean `ViT-B-32`"),
    "a tower of timm": ({"model": {**MODEL, "image": {"encoder": "timm:resnet5000"}}}, "no model `resnet5000`"),
    "a batch": ({"batch_size": 97}, r"batch_size is 97, but the training data hold only 96 samples.* batch_size=96"),
    "a task": ({"eval": {"tasks": ["retrievl"]}}, "unknown task `retrievl`; did you mean `retrieval`"),
    "no shards": ({"data": {"train": "gone"}}, "gone does not exist; name a folder, a table or shards as data=PATH"),
    "no built-in data": ({"data": {"train": "x/builtin/train"}}, "write it: tercet data generate --out x/builtin$"),
    "nothing held out there": (
        {"data": {"train": "WORLD/train", "val": "gone"}},
        "gone does not exist; .* as data.val=PATH",
    ),
    "weights": ({"init": "gone", "model": {}}, "there is no model `gone`"),
    "a later stage": (
        {"stages": [{"name": "a", "steps": 10}, {"name": "b", "steps": 10, "set": {"objective.smoothin": 1}}]},
        "has no option `smoothin`",
    ),
    "a table streamed": ({"data": {"train": "WORLD/photos.csv", "mode": "stream"}}, "Only shards can be streamed"),
    "no such column": ({"data": {"train": {"source": "WORLD/photos.csv", "image": "fil"}}}, "has no column `fil`"),
    "a modality that no column holds": ({"data": {"train": "WORLD/photos.csv"}}, "is known to hold audio"),
    "files that are not there": (
        {"data": {"train": "WORLD/gone.csv"}, "pairs": {"image-text": 1}},
        "1.jpg does not exist; paths in a table are relative",
    ),
    "pictures without captions": (
        {"data": {"train": "WORLD/pictures"}, "pairs": {"image-text": 1}},
        "no sample of .*pictures holds text",
    ),
    "a metric": (
        {
            "data": {"train": "WORLD/train", "val": "WORLD/val"},
            "eval": {"every": 1}, "early_stopping": {"metric": "R@2"},
        },
        "early_stopping.metric: `retrieval` has no `R@2`; did you mean `R@",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_dry_run_finds_the_errors_of_a_run(mistake: str, data: Path) -> None:
    changes, message = MISTAKES[mistake]
    (data / "pictures").mkdir()
    (data / "pictures" / "0.jpg").write_bytes(b"x")
    write_csv(data / "photos.csv", [{"file": "pictures/0.jpg"}])
    write_csv(data / "gone.csv", [{"file": "1.jpg", "caption": "gone"}])
    with pytest.raises(UserError, match=message):
        rehearsed(data, **yaml.safe_load(yaml.safe_dump(changes).replace("WORLD", str(data))))


def test_a_dry_run_counts_epochs_of_small_data_and_does_not_build_towers(data: Path) -> None:
    config, unseen = rehearsed(data, epochs=2, steps=0)
    assert (config.steps, config.epochs) == (96 * 2 // 16, None)
    assert unseen == ["towers and their weights"]


def test_a_dry_run_does_not_read_large_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_open, "SHARDS", 1000)
    monkeypatch.setattr(quick_open, "ROWS", 1)
    write_csv(data / "photos.csv", [{"file": f"{row}.jpg", "caption": "gone"} for row in range(2)])
    sources = {"shards": {"source": str(data / "train")}, "photos": {"source": str(data / "photos.csv")}}
    config, unseen = rehearsed(data, data={"train": sources, "val": str(data / "val")}, epochs=2, steps=0)
    assert config.epochs == 2
    assert unseen == [*(f"samples of {name}" for name in ("shards", "photos", "val")), "towers and their weights"]
    assert not list(data.rglob("*.safetensors"))


def test_a_dry_run_reads_an_existing_index_of_large_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["data", "index", str(data / "train"), "--workers", "1"]) == 0
    monkeypatch.setattr(quick_open, "SHARDS", 1000)
    assert rehearsed(data)[1] == ["towers and their weights"]


def test_a_dry_run_refuses_the_folder_of_another_run(data: Path, tmp_path: Path) -> None:
    values = recipe(data, tmp_path / "other", steps=1)
    with open_folder(RunConfig.model_validate(values), World()) as folder:
        (folder / "checkpoints").mkdir()
    assert dry_run(RunConfig.model_validate(values))
    chosen = {"selection": {"name": "random", "filter_ratio": 0.5}}
    with pytest.raises(UserError, match=r"another run: batch_size was 16 and is 8, selection\.\w+ was not set and is"):
        dry_run(RunConfig.model_validate(values | {"batch_size": 8} | chosen))


@pytest.mark.parametrize("start", [dry_run, train])
@pytest.mark.parametrize("names", [["notes.txt"], ["config.yaml"], [".lock", "train/0.tar"]])
def test_a_folder_with_other_files_is_refused_before_anything_is_written(
    start: Callable[[RunConfig], object], names: list[str], data: Path, tmp_path: Path
) -> None:
    for path in (tmp_path / "taken" / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = sorted((tmp_path / "taken").rglob("*"))
    values = recipe(data, tmp_path / "taken")
    with pytest.raises(UserError, match=r"^.*/taken has files that are not of a run; choose a new or an empty folder"):
        start(RunConfig.model_validate(values))
    assert sorted((tmp_path / "taken").rglob("*")) == before


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "config.yaml"], ["config.yaml", "provenance.json"]])
def test_a_run_begins_in_an_empty_folder_and_in_one_that_a_killed_run_left(
    left: list[str], data: Path, tmp_path: Path
) -> None:
    config = RunConfig.model_validate(recipe(data, tmp_path / "begun"))
    with open_folder(config, World()) as folder:
        pass
    for path in folder.iterdir():
        if path.name not in left:
            path.unlink()
    assert sorted(path.name for path in folder.iterdir()) == left
    with open_folder(config, World()):
        pass


def test_a_dry_run_refuses_data_that_changed_since_the_checkpoint(data: Path, tmp_path: Path) -> None:
    values = recipe(data, tmp_path / "begun", steps=1)
    train(RunConfig.model_validate(values))
    longer = RunConfig.model_validate(values)
    assert dry_run(longer)
    next((data / "train").glob("*.tar")).unlink()
    message = r"the data of `train` changed since the last checkpoint \(96 samples then, 72 now\)"
    for start in (dry_run, train):
        with pytest.raises(UserError, match=message):
            start(longer)


def test_the_dry_run_command_prints_the_plan(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe(data, data.parent / "run")))
    assert main(["train", str(path), "steps=3", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 steps of 16 = 48 samples" in shown
    assert "plain torch on one process, DeepSpeed at ZeRO 1 on several" in " ".join(shown.split())
    assert "not checked   towers and their weights" in shown
    assert main(["train", str(path), "data.train=gone", "--dry-run"]) == 2


def test_a_run_makes_the_checks_of_a_dry_run_first(data: Path) -> None:
    values = recipe(data, data.parent / "run", eval={"tasks": ["retrievl"]})
    with pytest.raises(UserError, match="unknown task `retrievl`"):
        train(RunConfig.model_validate(values))
