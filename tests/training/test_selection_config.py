"""What a recipe says about selection: which numbers fit together, and what does not is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tercet.command import main
from tercet.configs.base import build
from tercet.errors import UserError
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import check_processes, dry_run
from tercet.training.selection.config import SelectionConfig
from tests.training.tiny import recipe


def selecting(**changes: Any) -> SelectionConfig:
    return SelectionConfig.model_validate({"name": "random"} | changes)


@pytest.mark.parametrize(
    ("batch_size", "filter_ratio", "drawn"),
    [(32, 0.8, 160), (256, 0.5, 512), (99, 0.6667, 297), (30, 0.3333, 45), (64, 0, 64), (7, 0.3, 10), (8, 0.95, 160)],
)
def test_a_step_draws_a_whole_number_of_samples(batch_size: int, filter_ratio: float, drawn: int) -> None:
    assert selecting(filter_ratio=filter_ratio).drawn(batch_size) == drawn


@pytest.mark.parametrize(
    ("batch_size", "filter_ratio", "strata"),
    [(16, 0.5, 2), (256, 0.5, 32), (8192, 0.8, 256), (1000, 0.75, 8), (24, 0.25, 2), (7, 0.5, 1)],
)
def test_there_are_as_many_strata_as_leave_a_choice_in_each(batch_size: int, filter_ratio: float, strata: int) -> None:
    config = selecting(filter_ratio=filter_ratio)
    assert config.strata_of(batch_size) == strata
    assert batch_size % strata == config.drawn(batch_size) % strata == 0


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no ratio": (
        {"selection": "random"},
        "`selection.filter_ratio` is missing: share of the drawn samples to drop: a step draws",
    ),
    "half a sample": (
        {"batch_size": 16, "selection": {"name": "random", "filter_ratio": 0.3}},
        "`selection.filter_ratio` is 0.3, so a step would draw 16 / 0.7 = 22.9 samples; set batch_size to 14 or 21",
    ),
    "a stream decoded twice": (
        {
            "batch_size": 16,
            "data": {"train": "shards", "mode": "stream"},
            "selection": {"name": "random", "filter_ratio": 0.5, "scoring": {"size": 16, "decode_twice": True}},
        },
        "`selection.scoring.decode_twice` reads samples again by their ids, which a stream lacks; set data.mode=index",
    ),
    "nothing kept": (
        {"selection": {"name": "random", "filter_ratio": 0.9999}},
        "`selection.filter_ratio` is 0.9999; set it to 0.999 or less",
    ),
    "all dropped": (
        {"selection": {"name": "random", "filter_ratio": 1}},
        "`selection.filter_ratio` is `1`, but should",
    ),
    "too few samples": (
        {"batch_size": 32, "selection": {"name": "random", "filter_ratio": 0.8}},
        "batch_size is 32 and a step draws 160, but the training data hold only 96 samples, so that a batch would "
        "repeat some. Set batch_size=19 or less",
    ),
    "nothing to replay": (
        {"selection": {"name": "replay", "filter_ratio": 0.5, "run": "gone"}},
        "selection.run: there is no gone/selection.jsonl; name the folder of a run that recorded its selection",
    ),
    "uneven strata": (
        {"batch_size": 16, "selection": {"name": "random", "filter_ratio": 0.5, "strata": 3}},
        "`selection.strata` is 3, which does not divide both the 32 samples that a step draws and the 16 that it "
        "keeps; set it to a divisor of 16",
    ),
    "a rule": (
        {"selection": {"name": "randon", "filter_ratio": 0.5}},
        "unknown selection rule `randon`; did you mean `random`",
    ),
    "a rule, and no ratio": ({"selection": "jets"}, "unknown selection rule `jets`; did you mean `jest`?"),
    "a rule, and a wrong ratio": (
        {"selection": {"name": "jets", "filter_ratio": 1}},
        "unknown selection rule `jets`; did you mean `jest`?",
    ),
    "an option": (
        {"selection": {"name": "random", "filter_ratio": 0.5, "strat": 2}},
        "selection rule `random` has no option `strat`; did you mean `strata`",
    ),
    "an option's value": (
        {"selection": {"name": "loss", "filter_ratio": 0.5, "keep": "hard"}},
        "selection rule.keep = 'hard'",
    ),
    "a later stage": (
        {
            "stages": [
                {"name": "a", "steps": 10},
                {"name": "b", "steps": 10, "set": {"selection": {"name": "los", "filter_ratio": 0}}},
            ]
        },
        "unknown selection rule `los`; did you mean `loss`",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_impossible_selections_are_refused_in_one_line(mistake: str, world_folder: Path, tmp_path: Path) -> None:
    changes, message = REFUSED[mistake]
    with pytest.raises(UserError) as refused:
        dry_run(build(RunConfig, recipe(world_folder, tmp_path / "run", **changes), lambda key: "recipe"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("strata", "processes", "message"),
    [
        (None, 4, "selection.strata is 2, which is not a multiple of 4 processes; set it to 4"),
        (4, 8, "selection.strata is 4, which is not a multiple of 8 processes; set it to 8"),
        (8, 3, "selection.strata is 8, which is not a multiple of 3 processes; set batch_size to a multiple of 3"),
    ],
)
def test_a_stratum_is_never_split_between_processes(
    strata: int | None, processes: int, message: str, world_folder: Path, tmp_path: Path
) -> None:
    selection = {"name": "random", "filter_ratio": 0.5, "strata": strata}
    config = RunConfig.model_validate(recipe(world_folder, tmp_path / "run", selection=selection))
    check_processes(config, 2)
    with pytest.raises(UserError, match=f"^{message}$"):
        check_processes(config, processes)


def test_epochs_count_the_drawn_samples(world_folder: Path, tmp_path: Path) -> None:
    values = recipe(
        world_folder, tmp_path / "run", epochs=6, steps=0, selection={"name": "random", "filter_ratio": 0.75}
    )
    config, _ = dry_run(RunConfig.model_validate(values))
    assert (config.batch_size, config.drawn, config.steps) == (16, 64, 96 * 6 // 64)


def test_the_recipe_and_the_plan_show_the_selection(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe(world_folder, tmp_path / "run")))
    selecting = ["selection=loss", "selection.keep=easiest", "selection.filter_ratio=0.8"]
    assert main(["recipes", "show", str(path), *selecting]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["selection"] == {
        "name": "loss",
        "filter_ratio": 0.8,
        "balanced": True,
        "record": True,
        "keep": "easiest",
    }
    assert main(["train", str(path), "steps=3", *selecting, "--dry-run"]) == 0
    assert "3 steps of 16 kept from 80 by loss in 2 strata = 48 samples" in " ".join(capsys.readouterr().out.split())
