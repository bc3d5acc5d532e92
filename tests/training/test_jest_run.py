"""Joint example selection in a run: every ZeRO stage, an interruption, and what a recipe gets wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.configs.base import build
from tercet.errors import UserError
from tercet.testing import RankFailed, on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import dry_run
from tests.training.published import run_all as run_recipes
from tests.training.published import tiny
from tests.training.test_memory_teacher import exported
from tests.training.test_resume import run_all
from tests.training.test_selection import kept_places, selected
from tests.training.tiny import MODEL, losses, recipe, saved

OTHER_TEXT = {"encoder": "small:text", "options": {"width": 32, "heads": 2, "context": 20}}


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps with other weights than the learner."""
    out = tmp_path_factory.mktemp("reference")
    jobs = [
        (recipe(world_folder, out / "run", steps=2, seed=9), None),
        (recipe(world_folder, out / "other", steps=1, model=MODEL | {"text": OTHER_TEXT}), None),
        (recipe(world_folder, out / "two", steps=1, pairs={"image-text": 1.0}), None),
    ]
    on_ranks(run_all, 1, jobs)
    return out


def selecting(data: Path, out: Path, runs: Path, changes: dict[str, Any], **options: Any) -> dict[str, Any]:
    selection = {"name": "jest", "filter_ratio": 0.75, "strata": 2, "n_chunks": 4, "reference": str(runs / "run")}
    return recipe(data, out, steps=5, selection=selection | options, **changes)


def test_every_zero_stage_and_number_of_processes_keeps_the_same_samples(
    world_folder: Path, runs: Path, tmp_path: Path
) -> None:
    """At the first step, when all have the same weights."""
    on_ranks(run_all, 1, [(selecting(world_folder, tmp_path / "alone", runs, {"zero": 0}), None)])
    ways = {f"zero{zero}": {"zero": zero, "micro_batch": rows} for zero, rows in ((0, 5), (1, None), (2, 7), (3, None))}
    on_ranks(run_all, 2, [(selecting(world_folder, tmp_path / name, runs, way), None) for name, way in ways.items()])
    (alone,) = selected(tmp_path / "alone")[:1]
    for name in ways:
        (first,) = selected(tmp_path / name)[:1]
        assert (first["near_ties"], first["ids"]) == (0, alone["ids"]), name
        assert len(losses(tmp_path / name)) == 5
    assert len({tuple(places) for places in kept_places(tmp_path / "alone", 64)}) == 5


@pytest.mark.parametrize(
    ("processes", "changes"),
    [(1, {"zero": 0}), pytest.param(2, {"zero": 3, "micro_batch": 5}, marks=pytest.mark.long)],
)
def test_a_resumed_run_keeps_the_same_samples(
    processes: int, changes: dict[str, Any], world_folder: Path, runs: Path, tmp_path: Path
) -> None:
    whole = selecting(world_folder, tmp_path / "whole", runs, changes)
    parts = selecting(world_folder, tmp_path / "parts", runs, changes | {"checkpoint": {"every": 2}})
    on_ranks(run_all, processes, [(whole, None), (parts, 3), (parts, None)])
    assert selected(tmp_path / "whole") == selected(tmp_path / "parts")
    one, other = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_reference_that_changed_is_refused_on_resume(world_folder: Path, tmp_path: Path) -> None:
    """As is one that reads other pictures than those that are decoded at first."""
    changes = {"pairs": {"image-text": 1.0, "audio-text": 1.0}, "checkpoint": {"every": 2}}
    reference = {"reference": str(exported(tmp_path / "reference")), "reference_scale": "own"}
    values = selecting(world_folder, tmp_path / "run", tmp_path, changes, **reference)
    on_ranks(run_all, 1, [(values, 3)])
    exported(tmp_path / "reference", seed=6)
    with pytest.raises(RankFailed, match=r"selection.reference: .*reference has other weights than when this run"):
        on_ranks(run_all, 1, [(values, None)])
    scoring = {"scoring": {"size": 16, "decode_twice": True}}
    small = selecting(world_folder, tmp_path / "small", tmp_path, changes, **reference, **scoring)
    with pytest.raises(RankFailed, match=r"selection.reference: .* of `image`; use a model with the input of the run"):
        on_ranks(run_all, 1, [(small, None)])


def test_each_way_to_choose_chooses_otherwise(world_folder: Path, runs: Path, tmp_path: Path) -> None:
    """Also without a reference, and with each temperature of the reference."""
    ways: dict[str, dict[str, Any]] = {
        "joint": {},
        "independent": {"method": "independent"},
        "topk": {"sample": "topk"},
        "sigmoid": {"pair_loss": "sigmoid", "reference_scale": "learner"},
        "own": {"reference_scale": "own"},
        "number": {"reference_scale": 40},
        "hard": {"criterion": "hard_learner", "reference": None},
        "gradient": {"criterion": "gradient_norm", "reference": None},
        "easy": {"criterion": "easy_reference"},
    }
    objective = {"objective": {"name": "infonce", "bias": -5.0}}
    jobs = [(selecting(world_folder, tmp_path / name, runs, objective, **way), None) for name, way in ways.items()]
    on_ranks(run_all, 1, jobs)
    assert len({str(selected(tmp_path / name)) for name in ways}) == len(ways)


def test_the_recipes_train_a_reference_and_choose_with_it(world_folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "curated.csv"
    listed.write_text("id\n" + "\n".join(map(str, range(0, 64, 2))), encoding="utf-8")
    first = [*tiny("jest_reference", world_folder, tmp_path), f"data.train.list={listed}"]
    then = [*tiny("jest", world_folder, tmp_path), f"selection.reference={tmp_path / 'jest_reference'}"]
    on_ranks(run_recipes, 1, {"jest_reference": first, "jest": then})
    assert [len(losses(tmp_path / name)) for name in ("jest_reference", "jest")] == [2, 2]
    assert [len(line["ids"]) for line in selected(tmp_path / "jest")] == [16, 16]
    assert [sum(map(len, kept_places(tmp_path / "jest", 80)))] == [32]


def test_any_recipe_selects_by_a_bare_name(world_folder: Path, runs: Path, tmp_path: Path) -> None:
    selecting = ["selection=jest", "selection.filter_ratio=0.5", f"selection.reference={runs / 'run'}"]
    values = [*tiny("trimodal", world_folder, tmp_path), *selecting]
    on_ranks(run_recipes, 1, {"trimodal": values})
    assert [len(line["ids"]) for line in selected(tmp_path / "trimodal")] == [16] * 3


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no reference": (
        {"reference": None},
        {},
        "selection.reference is missing: `learnability` needs a model that knows good data. Name one, such as "
        "runs/reference, or set selection.criterion to hard_learner",
    ),
    "a reference that does not exist": (
        {"reference": "runs/gone"},
        {},
        "selection.reference: there is no model `runs/go",
    ),
    "too many chunks": (
        {"n_chunks": 17},
        {},
        "selection.n_chunks is 17, more than the 16 samples that a step keeps; set it to 16 or less",
    ),
    "no chunk": ({"n_chunks": 0}, {}, "selection rule.n_chunks = 0"),
    "sweeps without chunks": (
        {"method": "independent", "sweeps": 2},
        {},
        "selection.sweeps: these sweeps need method: joint; set that, or sweeps to 0",
    ),
    "sweeps over one chunk": (
        {"n_chunks": 1, "sweeps": 2, "refine": "gibbs"},
        {},
        "selection.sweeps: these sweeps need n_chunks of 2 or more; set that, or sweeps to 0",
    ),
    "no gain": ({"gain": 0}, {}, "selection rule.gain = 0"),
    "a scale below zero": ({"reference_scale": -1}, {}, "selection rule.reference_scale = -1"),
    "an unknown criterion": ({"criterion": "hard"}, {}, "selection rule.criterion = 'hard'"),
    "no bias": (
        {"pair_loss": "sigmoid"},
        {},
        "selection.pair_loss: `sigmoid` needs a bias, and the objective of `image-text` has none; set objective.bias, "
        "such as -10, or pair_loss to softmax",
    ),
    "nothing to compare": (
        {},
        {
            "pairs": {},
            "memories": {"momentum": {"decay": 0.9}},
            "terms": [{"between": ["text", "momentum.text"]}],
        },
        "selection.name: `jest` scores pairs of two fields, but no term compares two; add one",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_wrong_option_is_refused_in_one_line(mistake: str, world_folder: Path, runs: Path, tmp_path: Path) -> None:
    options, changes, message = REFUSED[mistake]
    values = selecting(world_folder, tmp_path / "run", runs, changes, **options)
    with pytest.raises(UserError) as refused:
        dry_run(build(RunConfig, values, lambda key: "recipe"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("other", {}, "selection.reference: .*other has another tokenizer or context length than that of `text`"),
        ("two", {}, "selection.reference: .*two was not trained on audio, which `audio` needs"),
        (
            "run",
            {"reference_scale": "own", "pair_loss": "sigmoid"},
            "selection.reference_scale: .*run was trained without a bias, which the sigmoid loss needs",
        ),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(
    name: str, options: dict[str, Any], message: str, world_folder: Path, runs: Path, tmp_path: Path
) -> None:
    objective = {"objective": {"name": "infonce", "bias": -5.0}}
    values = selecting(world_folder, tmp_path / "run", runs, objective, **{"reference": str(runs / name)} | options)
    with pytest.raises(RankFailed, match=message):
        on_ranks(run_all, 1, [(values, None)])
