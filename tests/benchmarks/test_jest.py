"""`tercet bench jest`: when an arm reaches its target, which runs are made, and the sampler beside a naive one."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.benchmarks import jest
from tercet.benchmarks.claims.experiment.runs import Job
from tercet.benchmarks.jest import arms, outcome, overhead
from tercet.benchmarks.jest.arms import BAD, FLOPS_REFERENCE, FLOPS_SCORING, FLOPS_TRAINING, PLAN, R1, SECONDS, at
from tercet.benchmarks.jest.naive import naive_selection
from tercet.benchmarks.table import judge
from tercet.command import main
from tercet.training.config import RunConfig

MODEL = {"image": {"encoder": "small:image", "size": 64}, "text": {"encoder": "small:text"}}
MADE: list[tuple[str, int]] = []
CURVES = {"uniform": (10.0, 20.0, 30.0, 40.0), "JEST": (20.0, 41.0, 39.0, 60.0), "hard learner": (5.0, 5.0, 4.0, 3.0)}


@dataclass(frozen=True)
class Fake:
    """An arm whose R@1 is known, at four steps. Seeds add a little to it."""

    name: str
    steps: int = 400
    batch_size: int = 64

    def run(self, seed: int) -> dict[str, float]:
        MADE.append((self.name, seed))
        curve = {at(100 * (place + 1)): value + seed for place, value in enumerate(CURVES[self.name])}
        scoring, reference = (0.0, 0.0) if self.name == "uniform" else (2e9, 5e10)
        return {
            **curve, R1: curve[at(400)], FLOPS_TRAINING: 3e9, FLOPS_SCORING: scoring, FLOPS_REFERENCE: reference,
            BAD: 0.1, SECONDS: 1.0,
        }  # fmt: skip


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    monkeypatch.setattr(jest, "overhead_rows", lambda batch, rounds: [])


def fake_arms(noise: float, steps: int | None = None) -> dict[str, Any]:
    return {name: Fake(name) for name in PLAN[noise].arms if name in CURVES}


def rows(capsys: Any, *arguments: str) -> dict[str, dict[str, Any]]:
    main(["bench", "jest", "--json", *arguments])
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


def test_the_target_of_a_seed_is_the_final_recall_of_its_uniform_run(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(jest, "arms_at", fake_arms)
    found = rows(capsys, "--out", str(tmp_path), "--noise", "0.5", "--seeds", "3")
    assert len(MADE) == 9
    steps, flops = found["steps of JEST, 50 % wrong captions"], found["FLOPs of JEST, 50 % wrong captions"]
    assert (steps["ours"], steps["peer"], steps["ratio"]) == (200, 400, 0.5)
    assert steps["ratios"]["values"] == [0.5] * 3
    assert flops["ratio"] == pytest.approx(200 * 5e9 / (400 * 3e9))
    whole = found["FLOPs of JEST, 50 % wrong captions, with those of the reference"]
    assert whole["ratio"] == pytest.approx((200 * 5e9 + 5e10) / (400 * 3e9))
    assert found["R@1 of JEST, 50 % wrong captions"]["gain"]["value"] == pytest.approx(20)
    never = found["steps of hard learner, 50 % wrong captions"]
    assert (never["ours"], never["ratio"], never["reached"]) == (None, None, "0 of 3 seeds")
    again = rows(capsys, "--out", str(tmp_path), "--noise", "0.5", "--arms", "JEST", "--seeds", "3")
    assert len(MADE) == 9, "finished runs are not repeated"
    assert {name for name in again if name.startswith("steps")} == {
        f"steps of {arm}, 50 % wrong captions" for arm in ("uniform", "JEST")
    }


def test_uniform_batches_reach_their_own_target_by_the_rule_of_the_other_arms(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(jest, "arms_at", fake_arms)
    monkeypatch.setitem(CURVES, "uniform", (10.0, 40.0, 41.0, 40.0))
    found = rows(capsys, "--out", str(tmp_path), "--noise", "0.5", "--seeds", "3")
    uniform = found["steps of uniform, 50 % wrong captions"]
    assert (uniform["ours"], uniform["peer"], uniform["ratio"]) == (200, 400, 0.5)


def test_the_plan_has_uniform_batches_at_every_share_and_the_recipes_of_its_arms_are_valid() -> None:
    assert {noise: (plan.seeds, plan.arms[0]) for noise, plan in PLAN.items()} == {
        0.5: (5, "uniform"), 0.3: (5, "uniform"), 0.1: (3, "uniform"), 0.0: (3, "uniform"),
    }  # fmt: skip
    settings = arms.recipe(Path("data"), 400, 64, 1e-3, "cosine", 20)
    assert settings["eval"]["every"] == 20
    for arm in arms.arms_at(0.5).values():
        selection = {"selection": dict(arm.selection)} if arm.selection else {}
        config = RunConfig.model_validate({"name": "x", **settings, **selection, "model": MODEL})
        assert config.drawn == (64 if not arm.selection else 320 if arm.selection["filter_ratio"] == 0.8 else 128)
        assert (arm.reference is not None) == (bool(arm.selection) and "criterion" not in arm.selection)
    assert {arm.noise for arm in arms.SWEEP.values()} == {0.5}
    assert all(arm.first_seed >= 1_000 for arm in arms.SWEEP.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "JETS"], "--arms: unknown arm `JETS`; did you mean `JEST`?"),
        (["--noise", "0.4"], "--noise: `0.4` is not measured; give some of 0.5, 0.3, 0.1, 0"),
        (["--seeds", "2"], "--seeds is 2; give 3 or more"),
        (["--batch", "100"], "give --rounds of 1 or more, and as --batch a multiple of 64"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: Any) -> None:
    assert main(["bench", "jest", *arguments]) == 2
    assert capsys.readouterr().err == f"tercet: {message}\n"


def test_a_part_of_the_benchmark_misses_no_target() -> None:
    assert not judge("jest", []).holds
    for option in ("--arms", "--noise", "--sweep", "--overhead"):
        assert judge("jest", [], [option, "x"]).holds


@pytest.mark.parametrize("kept", [32, 40])
def test_the_sampler_chooses_what_a_naive_one_chooses(kept: int) -> None:
    """In double precision on both sides, so that no near tie is decided by rounding."""
    models, noise = overhead.inputs(160)
    double = [(x.double(), y.double(), scale) for x, y, scale in models]
    ours, naive = (select(double, kept, noise) for select in (overhead.our_selection, naive_of))
    assert ours.tolist() == naive.tolist()
    assert len(ours) == kept


def naive_of(models: list[Any], kept: int, noise: torch.Tensor) -> torch.Tensor:
    return naive_selection(models, kept, noise, overhead.GAIN)


@pytest.mark.long
def test_the_overhead_is_in_units_of_a_step() -> None:
    found = {row.name: row for row in overhead.overhead_rows(64, 1)}
    assert {"sampler time", "sampler memory", "sampling", "scoring by the learner"} <= set(found)
    full, half = (found[f"scoring by the learner{how}"] for how in ("", " at half the size"))
    assert full.beyond["FLOPs"] == pytest.approx(5 / 3, rel=0.05)
    assert half.beyond["FLOPs"] < 0.6 * full.beyond["FLOPs"]
    assert found["sampling"].sizes["drawn"] == 320


@pytest.mark.long
def test_every_arm_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A few steps on a few scenes, with a reference of its own."""
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    monkeypatch.setattr(arms, "WORLD", {**arms.WORLD, "val": 40, "workers": 1})
    for name, arm in arms.arms_at(0.5, steps=2).items():
        reference = arm.reference and replace(arm.reference, scenes=400, steps=1)
        found = replace(arm, scenes=400, reference=reference).run(0)
        assert found[R1] >= 0
        assert outcome.steps_to(-1.0, found) == 1
        assert (found[FLOPS_SCORING] > 0) == (name != "uniform")
        assert (found[FLOPS_REFERENCE] > 0) == (reference is not None)


def test_jobs_go_seed_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jest, "arms_at", fake_arms)
    jobs = jest.jobs_at(0.0, jest.read_options([]))
    assert [(job.name, job.seed) for job in jobs] == [(name, seed) for seed in range(3) for name in ("uniform", "JEST")]
    assert isinstance(jobs[0], Job)
