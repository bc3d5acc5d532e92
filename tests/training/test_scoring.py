"""Scoring at a smaller size: what the learner sees, and the exact gradient of a step that trains both sizes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tercet.benchmarks.gradients.case import ITEMS, Case, make_batch
from tercet.benchmarks.gradients.ours import WAYS, GradientCase
from tercet.benchmarks.gradients.truth import errors, model_of, true_loss, worst
from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.config import ModelConfig
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.reduction import Reduction, larger_patches
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks
from tercet.training.loop.scoring import AS_TRAINED, Scoring, build_scoring
from tercet.training.loop.step import Step
from tercet.training.selection.config import ScoringConfig
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, losses, recipe, saved

PATCHES = larger_patches((32, 32), 16, 32)


def reduced_items(which: str) -> Tensor:
    """Which items of the whole batch are trained at the size of scoring."""
    index = torch.arange(ITEMS)
    return {"some": index % 3 == 0, "none on a rank": (index < ITEMS // 2) & (index % 2 == 0), "all": index >= 0}[which]


def marked(batch: Batch, which: str) -> Batch:
    image = batch.fields["image"]
    reduced = replace(image, reduced=reduced_items(which)[batch.ids[image.item]])
    return replace(batch, fields={**batch.fields, "image": reduced})


def flexible(model: Any) -> Any:
    model.reduction = PATCHES
    return model


def naive_gradient(case: Case, layout: str, which: str) -> dict[str, Tensor]:
    """Every picture goes through the tower alone, at one of the two sizes; then autograd through the naive loss."""
    model: Multimodal = flexible(model_of(case, torch.device("cpu")))
    batch = make_batch(model, case, layout, World())
    image, small = batch.fields["image"], reduced_items(which)
    rows = []
    for row, item in enumerate(image.item.tolist()):
        pixels = image.values[row : row + 1]
        rows.append(model.head("image", model.tower("image")(PATCHES(pixels) if small[item] else pixels)))
    vectors = {"image": torch.cat(rows), "text": model.encode(batch.fields["text"])}
    temperatures = {term: model.head.temperature(term) for term in model.terms}
    terms = [true_loss(case, term, vectors, temperatures, batch) for term in case.terms]
    torch.autograd.backward(torch.stack(terms).sum())
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def mixed_errors(world: World, zero: int) -> dict[str, float]:
    case, found = Case(world.size, zero, setting="image-text"), {}
    bench = GradientCase(world, case)
    module: Any = bench.engine.module
    flexible(module)
    for way, layout, which in (
        ("plain", "all rows", "some"),
        ("cached", "rows missing", "none on a rank"),
        ("cached", "all rows", "all"),
    ):
        step = Step(bench.engine, bench.terms, world, 0, WAYS[way])
        step(marked(make_batch(module, case, layout, world), which), 0)
        error = worst(errors(bench.recorded(), naive_gradient(case, layout, which)))
        found[f"ZeRO {zero}, {way}, {layout}, {which}"] = error.value
    return found


def errors_at(world: World, stages: tuple[int, ...]) -> dict[str, float]:
    return {name: error for zero in stages for name, error in mixed_errors(world, zero).items()}


@pytest.mark.parametrize(
    ("processes", "stages"), [(1, (0,)), (2, (0, 3)), pytest.param(2, (1, 2), marks=pytest.mark.long)]
)
def test_a_step_at_two_sizes_has_the_gradient_of_a_naive_computation(processes: int, stages: tuple[int, ...]) -> None:
    for rank in on_ranks(errors_at, processes, stages):
        for name, error in rank.items():
            assert error < 1e-5, name


def test_marks_change_the_gradient() -> None:
    case = Case(1, 0, setting="image-text")
    some, none = (naive_gradient(case, "all rows", which) for which in ("some", "none on a rank"))
    assert worst(errors(some, none)).value > 1e-3


def test_scoring_sees_smaller_pictures_in_bf16() -> None:
    case = Case(1, 0, setting="image-text")
    bench = GradientCase(World(), case)
    module: Any = bench.engine.module
    batch = make_batch(module, case, "all rows", World())
    found = {}
    for name, config in (
        ("plain", None),
        ("patch", ScoringConfig(patch=32)),
        ("bf16", ScoringConfig(patch=32, precision="bf16")),
    ):
        scoring = build_scoring(config, module, torch.device("cpu"))
        found[name] = Step(bench.engine, bench.terms, World(), 0, 5, scoring=scoring).embed(batch)[0]
    plain = flexible(model_of(case, torch.device("cpu"))).eval()
    with torch.no_grad():
        small = plain.head("image", plain.tower("image")(PATCHES(batch.fields["image"].values)))
    torch.testing.assert_close(found["patch"]["image"], small)
    assert torch.equal(found["patch"]["text"], found["plain"]["text"])
    assert float((found["patch"]["image"] - found["plain"]["image"]).abs().max()) > 1e-3
    difference = float((found["bf16"]["image"] - small).abs().max())
    assert 1e-5 < difference < 0.05


def pictures(items: int, reduction: Reduction) -> Batch:
    index = torch.arange(items)
    return Batch(index, index, {"image": Field("image", torch.zeros(items, 3, *reduction.before), index)})


def test_each_stratum_trains_its_share_at_the_size_of_scoring_on_any_number_of_ranks() -> None:
    scoring, places = Scoring(PATCHES, mixed=0.5), list(range(3, 100, 4))[:24]
    whole = scoring.mix(pictures(24, PATCHES), 7, 5, places, 4).fields["image"].reduced
    assert whole is not None
    assert whole.view(4, 6).sum(dim=1).tolist() == [3] * 4
    halves = [
        scoring.mix(pictures(12, PATCHES), 7, 5, part, 2).fields["image"].reduced for part in (places[:12], places[12:])
    ]
    assert torch.equal(whole, torch.cat([half for half in halves if half is not None]))
    other = scoring.mix(pictures(24, PATCHES), 7, 6, places, 4).fields["image"].reduced
    assert other is not None
    assert not torch.equal(whole, other)
    assert AS_TRAINED.mix(pictures(4, PATCHES), 7, 5, [1, 2, 3, 4], 1).fields["image"].reduced is None


SCORING = {"name": "loss", "filter_ratio": 0.5, "scoring": {"size": 16, "precision": "bf16", "mixed": 0.5}}


@pytest.mark.parametrize(("world", "zero"), [(1, 0), pytest.param(2, 3, marks=pytest.mark.long)])
def test_resumed_runs_are_bit_equal_and_save_the_same_tower(
    world_folder: Path, tmp_path: Path, world: int, zero: int
) -> None:
    values = {
        name: recipe(world_folder, tmp_path / name, steps=4, zero=zero, micro_batch=3, selection=SCORING)
        for name in ("whole", "parts", "plain")
    }
    values["parts"]["checkpoint"] = {"every": 2}
    values["plain"]["selection"] = None
    on_ranks(
        run_all,
        world,
        [(values["whole"], None), (values["parts"], 3), (values["parts"], None), (values["plain"], None)],
    )
    first, second, plain = (saved(tmp_path / name) for name in values)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert {name: value.shape for name, value in first.items()} == {name: value.shape for name, value in plain.items()}
    assert losses(tmp_path / "whole") != losses(tmp_path / "plain")


def test_mixed_training_does_not_depend_on_the_number_of_processes(world_folder: Path, tmp_path: Path) -> None:
    selection = SCORING | {"name": "random", "scoring": {"size": 16, "mixed": 0.5}}
    for processes in (1, 2):
        values = recipe(world_folder, tmp_path / str(processes), steps=4, selection=selection)
        on_ranks(run_all, processes, [(values, None)])
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "2"), rel=1e-5)


def model(image: dict[str, Any] | None, **term: Any) -> Multimodal:
    towers = {"dim": 16, "text": MODEL["text"], "audio": MODEL["audio"]} | ({"image": image} if image else {})
    between = ("image" if image else "audio", "text")
    return build_model(ModelConfig.model_validate(towers), [TermConfig(between=between, **term)], seed=0)


VIT = {"encoder": "timm:vit_tiny_patch16_224", "size": 64, "options": {"depth": 1}}
CNN = {"encoder": "timm:mobilenetv4_conv_small", "size": 32, "frozen_batchnorm": True}
MIXER = {"encoder": "timm:mixer_s32_224"}
SMALL: Any = MODEL["image"]
REFUSED: dict[str, tuple[dict[str, Any] | None, dict[str, Any], str]] = {
    "no pictures": (None, {"size": 16}, "selection.scoring.size: the model has no image tower, and only pictures"),
    "no patches": (
        CNN,
        {"patch": 32},
        "selection.scoring.patch: the image tower does not cut pictures into square patches",
    ),
    "small": (
        SMALL,
        {"patch": 32},
        "selection.scoring.patch: the image tower does not cut pictures into square patches",
    ),
    "patches do not fit": (
        VIT,
        {"patch": 24},
        "selection.scoring.patch is 24, but the tower has patches of 16 and pictures of 64 pixels; set it to one of "
        "32, 64",
    ),
    "smaller patches": (VIT, {"patch": 8}, "selection.scoring.patch is 8, but the tower has patches of 16"),
    "not smaller": (VIT, {"size": 64}, "selection.scoring.size is 64; set it below the 64 pixels of the image tower"),
    "part of a patch": (
        VIT,
        {"size": 40},
        "selection.scoring.size is 40; set it to a multiple of the tower's patches of 16",
    ),
    "fixed patches": (
        MIXER,
        {"size": 112},
        "selection.scoring.size: the image tower does not accept pictures of 112 pixels (",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_towers_that_cannot_run_at_another_size_are_refused_in_one_line(mistake: str) -> None:
    image, options, message = REFUSED[mistake]
    with pytest.raises(UserError) as refused:
        build_scoring(ScoringConfig.model_validate(options), model(image), torch.device("cpu"))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_terms_over_tokens_train_at_one_size() -> None:
    compared = model(SMALL, objective={"name": "sequence"})
    with pytest.raises(UserError, match=r"^selection.scoring.mixed: a term compares tokens of `image`"):
        build_scoring(ScoringConfig(size=16, mixed=0.5), compared, torch.device("cpu"))
    assert build_scoring(ScoringConfig(size=16), compared, torch.device("cpu")).reduction is not None
    assert build_scoring(ScoringConfig(size=16), model(CNN), torch.device("cpu")).reduction is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 32, "size": 112}, "and `patch` are both set; keep one of them"),
        ({"mixed": 0.5}, "needs a size to train at; set `patch` or `size`"),
        ({"patch": 32, "decode_twice": True}, "needs a size to decode at first; set `size`"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoringConfig.model_validate(options)
