"""Dynamic weights of sources: the gradient against autograd, the update against its formula, and whole runs."""

import json
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tercet.benchmarks.gradients.case import Case, make_batch
from tercet.benchmarks.gradients.truth import model_of
from tercet.configs.base import build
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal
from tercet.testing import RankFailed, on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import check_gradient, check_processes
from tercet.training.source_weights.config import SourceWeightsConfig
from tercet.training.source_weights.gradient import ProjectionGradient
from tercet.training.source_weights.source_weights import WEIGHTS
from tercet.training.source_weights.update import alignments, updated
from tests.training.tiny import MODEL, assert_same_run, recipe, run

CASE = Case(1, 0)  # three open_clip and timm towers, all pairs, and items that share a group
STEPS, EVERY = 9, 3  # so the weights change before steps 3 and 6, counted from 0


@pytest.fixture(scope="session")
def mismatched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes whose captions describe other scenes."""
    config = WorldConfig(
        seed=5, train=72, val=0, combinations=0, size=32, seconds=0.5, samples_per_shard=24, workers=1, mismatched=1.0
    )
    return generate(config, tmp_path_factory.mktemp("mismatched"))


def naive_gradient(model: Multimodal, batch: Batch) -> Tensor:
    """Autograd in fp64 through the whole matrix of logits of each pair, from the features that enter the head."""
    features: dict[str, Tensor] = {}
    for name, field in batch:
        with torch.no_grad():
            features[name] = model.tower(name)(*field.inputs).double()
    weights = {
        name: getattr(one, "weight", torch.eye(model.head.dim)).detach().double().requires_grad_()
        for name, one in model.head.projections.items()
    }
    z = {name: normalize(value @ weights[name].T, dim=1) for name, value in features.items()}
    same = (batch.groups[:, None] == batch.groups) & ~torch.eye(len(batch), dtype=torch.bool)
    total = torch.zeros((), dtype=torch.float64)
    for term in CASE.terms:
        one, other = term.between
        scale = model.head.temperature(term.name)[0].detach().double()
        logits = (scale * z[one] @ z[other].T).masked_fill(same, -math.inf)
        target = torch.arange(len(batch))
        total = total + term.weight * (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    total.backward()
    return torch.cat([weight.grad.flatten() for weight in weights.values() if weight.grad is not None])


def gradient_on(world: World, micro_batch: int | None) -> Tensor:
    model, config = model_of(CASE, world.device), CASE.config().model_copy(update={"micro_batch": micro_batch})
    batch = make_batch(model, CASE, "all rows", world)
    return ProjectionGradient(model, Terms(CASE.terms, 7), config, world)(batch, 0)


def test_the_gradient_is_that_of_autograd_on_any_number_of_processes() -> None:
    model = model_of(CASE, torch.device("cpu")).eval()
    truth = naive_gradient(model, make_batch(model, CASE, "all rows", World()))
    assert len(truth) == 512 * 512 * 2 + 48 * 512, "two towers that project by themselves, and one that does not"
    for found in (gradient_on(World(), None), gradient_on(World(), 5), *on_ranks(gradient_on, 2, 5)):
        assert float((found - truth).abs().max()) < 1e-5 * float(truth.abs().max())


def config_of(**options: Any) -> SourceWeightsConfig:
    return SourceWeightsConfig.model_validate({"target": "target", "every": 10, **options})


def test_the_update_is_mirror_descent_with_a_floor_and_an_average() -> None:
    torch.manual_seed(0)
    source_KP, target_P = torch.randn(3, 50), torch.randn(50)
    options = config_of(rate=0.7, floor=0.1, decay=0.25, normalize=False)
    alignment_K = alignments(source_KP, target_P, options)
    old = [0.5, 0.3, 0.2]
    grown = []
    for weight, source_P in zip(old, source_KP.tolist(), strict=True):
        product = sum(one * other for one, other in zip(source_P, target_P.tolist(), strict=True))
        grown.append(weight * math.exp(0.7 * product))
    mixed = [0.1 + 0.7 * weight / sum(grown) for weight in grown]
    expected = [0.25 * before + 0.75 * after for before, after in zip(old, mixed, strict=True)]
    assert updated(torch.tensor(old) * 4, alignment_K, options).tolist() == pytest.approx(expected, abs=1e-6)
    cosine_K = alignments(source_KP, target_P, config_of())
    assert cosine_K.tolist() == pytest.approx(torch.cosine_similarity(source_KP, target_P).tolist(), abs=1e-6)
    broken_K = torch.tensor([1.0, math.nan, 0.0])
    assert updated(torch.tensor(old), broken_K, options).tolist() == pytest.approx(old), "nothing changes"


def weighed(world_folder: Path, mismatched: Path, out: Path, **changes: Any) -> dict[str, Any]:
    train = {"right": str(world_folder / "train"), "wrong": str(mismatched / "train")}
    values = recipe(
        world_folder, out, model={**MODEL, "audio": None}, pairs={"image-text": 1.0}, steps=STEPS, batch_size=12,
        data={"train": train, "crop": None, "worker": "thread"},
        source_weights={"target": str(world_folder / "val"), "every": EVERY, "rate": 2.0, "floor": 0.1},
    )  # fmt: skip
    return values | changes


def run_all(world: World, jobs: list[tuple[dict[str, Any], int | None]]) -> None:
    for values, stop in jobs:
        run(world, values, stop)


def recorded(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / WEIGHTS).read_text().splitlines()]


def plans(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "plans" / "history.jsonl").read_text().splitlines()]


def test_a_run_that_is_killed_resumes_with_the_same_bits_at_zero_stage_3(
    world_folder: Path, mismatched: Path, tmp_path: Path
) -> None:
    whole, parts = (weighed(world_folder, mismatched, tmp_path / name, zero=3) for name in ("whole", "parts"))
    parts |= {"checkpoint": {"every": 1}}
    on_ranks(run_all, 2, [(whole, None), (parts, 3), (parts, 4), (parts, None)])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert recorded(tmp_path / "whole") == recorded(tmp_path / "parts")
    assert plans(tmp_path / "whole") == plans(tmp_path / "parts")
    assert [line["step"] for line in plans(tmp_path / "whole")] == [0, 3, 6]


def test_one_and_two_processes_change_the_weights_alike_and_the_plan_has_them(
    world_folder: Path, mismatched: Path, tmp_path: Path
) -> None:
    values = [weighed(world_folder, mismatched, tmp_path / name) for name in ("one", "two")]
    on_ranks(run_all, 1, [(values[0], None)])
    on_ranks(run_all, 2, [(values[1], None)])
    one, two = recorded(tmp_path / "one"), recorded(tmp_path / "two")
    for before, after in zip(one, two, strict=True):
        assert before["weights"] == pytest.approx(after["weights"], abs=2e-6)
        assert before["alignment"] == pytest.approx(after["alignment"], abs=1e-4)
    last = json.loads((tmp_path / "one" / "plans" / f"{plans(tmp_path / 'one')[-1]['plan']}.json").read_text())
    assert {share["name"]: share["weight"] for share in last["shares"]} == one[-1]["weights"]


def test_a_gradient_that_is_not_finite_changes_no_weight_and_the_run_says_so(
    world_folder: Path, mismatched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_K = torch.tensor([math.nan, 0.5], dtype=torch.float64)
    with patch("tercet.training.source_weights.source_weights.alignments", lambda *_: broken_K):
        run(World(), weighed(world_folder, mismatched, tmp_path, steps=EVERY + 1))
    assert recorded(tmp_path) == [
        {"step": EVERY, "alignment": {"right": None, "wrong": 0.5}, "weights": {"right": 0.5, "wrong": 0.5}}
    ]
    said = f"step {EVERY}: source_weights: a gradient is not finite (right), so no weight changes"
    assert said in capsys.readouterr().err


@pytest.mark.long
def test_the_weights_move_to_the_source_whose_captions_are_right(tmp_path: Path) -> None:
    size = {"val": 160, "combinations": 0, "size": 32, "seconds": 0.5, "samples_per_shard": 100, "workers": 1}
    right = generate(WorldConfig.model_validate({**size, "train": 600}), tmp_path / "right")
    wrong = generate(WorldConfig.model_validate({**size, "train": 600, "seed": 5, "mismatched": 1}), tmp_path / "wrong")
    values = weighed(
        right, wrong, tmp_path / "run", steps=120, batch_size=32, optimizer={"lr": 3e-3}, ema=None,
        schedule={"name": "constant"},
        source_weights={"target": str(right / "val"), "every": 20, "samples": 128},
    )  # fmt: skip
    run(World(), values)
    found = recorded(tmp_path / "run")
    assert len(found) == 5
    assert found[-1]["weights"]["right"] > 0.75
    assert found[-1]["alignment"]["right"] > 0.5 > found[-1]["alignment"]["wrong"]


def test_weights_outlive_an_episode_and_start_anew_in_a_stage_without_them(
    world_folder: Path, mismatched: Path, tmp_path: Path
) -> None:
    stages = [
        {"name": "moving", "steps": 6},
        {"name": "fixed", "steps": 2, "set": {"source_weights": None}},
    ]
    values = weighed(
        world_folder, mismatched, tmp_path / "run", stages=stages, episodes={"every": 4, "train_on": "drawn",
        "samples": 96},
    )  # fmt: skip
    del values["steps"]
    run(World(), values)
    weights = recorded(tmp_path / "run")[-1]["weights"]
    digests = [line["plan"] for line in plans(tmp_path / "run")]
    plan = [json.loads((tmp_path / "run" / "plans" / f"{digest}.json").read_text()) for digest in digests]
    shares = [{share["name"]: share["weight"] for share in one["shares"]} for one in plan]
    assert shares == [{"right": 1, "wrong": 1}, weights, weights, {"right": 1, "wrong": 1}]


def made(**changes: Any) -> RunConfig:
    values = weighed(Path("shards"), Path("others"), Path("out"), **changes)
    return build(RunConfig, values, lambda key: "recipe")


def test_mistakes_are_refused_in_one_line(world_folder: Path, mismatched: Path, tmp_path: Path) -> None:
    weights = {"target": "target", "every": 3, "floor": 0.1}
    alone = {"train": "shards", "crop": None}
    for error, changes in {
        r"`source_weights` need several training sources": {"data": alone},
        r"`source_weights.floor` is 0\.5, which 2 sources cannot all have": {
            "source_weights": {**weights, "floor": 0.5}
        },
        r"`source_weights.floor` is 0\.01, which is 0\.12 samples of a batch of 12; set it to 0\.0833": {
            "source_weights": {**weights, "floor": 0.01}
        },
        r"uses `queue\.image` of a memory": {
            "source_weights": weights,
            "memories": {"queue": {"fields": ["image"], "size": 64}},
            "against": {"text": ["queue.image"]},
        },
    }.items():
        with pytest.raises(UserError, match=error):
            made(**changes)
    with pytest.raises(UserError, match=r"source_weights\.samples is 12, which 5 processes cannot share; take 15"):
        check_processes(made(), 5)
    values = weighed(
        world_folder, mismatched, tmp_path, source_weights={**weights, "target": str(world_folder / "val")}
    )
    values["source_weights"]["samples"] = 50
    with pytest.raises(RankFailed, match=r"source_weights\.target holds 40 samples, but source_weights\.samples is 50"):
        on_ranks(run_all, 1, [(values, None)])


def test_an_objective_that_keeps_values_of_samples_is_refused() -> None:
    from tercet.models.losses import build_term

    (term,) = made(objective={"name": "isogclr"}).terms
    with pytest.raises(UserError, match=r"`isogclr` keeps values of training samples, which a target lacks"):
        check_gradient(term, build_term(term))
