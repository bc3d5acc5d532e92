"""Claims: their runs are resumed, their intervals are those of Student's t, and each one trains."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.benchmarks import claims
from tercet.benchmarks.claims import claim_names, load_claim
from tercet.benchmarks.claims.experiment import built_in, strong
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.outcome import estimate, outcome
from tercet.benchmarks.claims.experiment.runs import digest, numbers
from tercet.benchmarks.claims.experiment.synthetic import FIELDS, Pairs, Towers
from tercet.benchmarks.claims.experiment.training import batch_of, fit, fit_term
from tercet.command import main
from tercet.models.term_config import TermConfig
from tercet.training.recipe import load_recipe

ON_BUILT_IN_DATA = {  # and so slow, but for `queue`, which always runs
    "caption_negatives", "clip_refine", "clip_refine_retrieval", "degla", "laclip", "lit", "long_clip", "momentum",
    "negclip", "negclip_retrieval", "protoclip", "protoclip_zero_shot", "silc", "strong_baseline_sweep", "tripletclip",
    "tripletclip_retrieval",
}  # fmt: skip
MADE: list[tuple[float, int]] = []  # the gain and the seed of every run that was made


@dataclass(frozen=True)
class Fake:
    """Noise that the arms share, and a gain."""

    gain: float
    steps: int = 300

    def run(self, seed: int) -> dict[str, float]:
        MADE.append((self.gain, seed))
        print("results for people")  # as a training run does
        return {"R@1": 10.0 * seed + self.gain * (1 + 0.1 * seed), "loss": 1.0}


def fake(gain: float, **further: Any) -> Claim:
    arms = {"with": Fake(gain), "without": Fake(0.0)}
    return Claim(says="A gain helps.", source="Nobody 2020", measure="R@1", arms=arms, **further)


@pytest.fixture(autouse=True)
def made() -> Iterator[list[tuple[float, int]]]:
    MADE.clear()
    yield MADE
    MADE.clear()


def test_finished_runs_are_not_repeated(tmp_path: Path, made: list[tuple[float, int]]) -> None:
    first = numbers("fake", fake(1.0), range(2), tmp_path)
    assert made == [(1.0, 0), (0.0, 0), (1.0, 1), (0.0, 1)]
    assert numbers("fake", fake(1.0), range(2), tmp_path) == first
    assert len(made) == 4
    more = numbers("fake", fake(1.0), range(3), tmp_path)
    assert made[4:] == [(1.0, 2), (0.0, 2)]
    assert {arm: runs[:2] for arm, runs in more.items()} == first


def test_other_settings_are_other_runs(tmp_path: Path, made: list[tuple[float, int]]) -> None:
    numbers("fake", fake(1.0), range(2), tmp_path)
    found = numbers("fake", fake(2.0), range(2), tmp_path)
    assert made[4:] == [(2.0, 0), (2.0, 1)]
    assert [run["R@1"] for run in found["with"]] == pytest.approx([2.0, 12.2])


def test_claims_of_the_same_runs_share_their_equal_arms(tmp_path: Path, made: list[tuple[float, int]]) -> None:
    one, other = fake(1.0, runs="both"), fake(2.0, runs="both")
    first = numbers("one", one, range(2), tmp_path)
    second = numbers("other", other, range(2), tmp_path)
    assert made[4:] == [(2.0, 0), (2.0, 1)]
    assert first["without"] == second["without"]
    numbers("alone", fake(1.0), range(2), tmp_path)
    assert len(made) == 10, "a claim without `runs` has a file of its own"


def test_methods_share_one_baseline() -> None:
    claims = [load_claim(name) for name in claim_names()]
    shared = [claim for claim in claims if claim.runs == strong.RUNS]
    assert len({digest(claim.arms["baseline"]) for claim in shared}) == 1
    assert {"Yuksekgonul et al. 2023", "Patel et al. 2024", "Chen et al. 2023"} <= {claim.source for claim in shared}
    recipe, arm = load_recipe(strong.RECIPE), strong.Strong()
    assert (recipe.batch_size, recipe.steps, recipe.optimizer.lr) == (arm.batch_size, arm.steps, arm.lr)
    assert (recipe.schedule.name, recipe.schedule.warmup) == (arm.schedule, arm.warmup)


def test_an_interrupted_claim_goes_on(tmp_path: Path, made: list[tuple[float, int]], capsys: Any) -> None:
    numbers("fake", fake(1.0), range(3), tmp_path)
    file = tmp_path / "fake.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:4]))
    capsys.readouterr()
    numbers("fake", fake(1.0), range(3), tmp_path)
    assert made[6:] == [(1.0, 2), (0.0, 2)]
    assert capsys.readouterr().err == (
        "tercet: measuring fake: with, seed 2 (1 more after it)\n"
        "tercet: measuring fake: without, seed 2 (0 more after it)\n"
    )


def test_the_interval_is_that_of_student() -> None:
    """For five values, four degrees of freedom: the distribution of t has a closed form."""
    values = [64.8, 57.9, 57.4, 61.7, 54.5]
    middle, low, high = estimate(values)
    mean = sum(values) / 5
    error = (sum((value - mean) ** 2 for value in values) / 4 / 5) ** 0.5
    t = (high - mean) / error
    below = 0.5 + 0.375 * t / (1 + t * t / 4) ** 0.5 * (1 - t * t / 12 / (1 + t * t / 4))
    assert below == pytest.approx(0.975, abs=5e-5)
    assert (middle, middle - low) == pytest.approx((mean, high - mean))


@pytest.mark.parametrize(
    ("gain", "better", "verdict"),
    [
        (1.0, "higher", "holds"),
        (-1.0, "higher", "does not hold"),
        (0.0, "higher", "not shown"),
        (-1.0, "lower", "holds"),
        (1.0, "lower", "does not hold"),
    ],
)
def test_the_difference_is_taken_seed_by_seed(tmp_path: Path, gain: float, better: Any, verdict: str) -> None:
    """Seeds differ by far more than the arms, so only the paired difference shows the gain."""
    claim = fake(gain, better=better)
    row = outcome("fake", claim, numbers("fake", claim, range(5), tmp_path))
    assert row.beyond["verdict"] == verdict
    assert row.holds is {"holds": True, "does not hold": False, "not shown": None}[verdict]
    assert row.beyond["difference"]["R@1"]["value"] == pytest.approx(1.2 * gain)
    assert (row.ours, row.peer) == pytest.approx((20 + 1.2 * gain, 20))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0, None, "does not hold"),
        (-2, None, "holds"),
        (-1, None, "not shown"),
        (-0.5, None, "does not hold"),
        (-3, 3, "holds"),
        (-1, 1, "not shown"),
        (-0.1, 0.1, "does not hold"),
        (-3, -2, "does not hold"),
        (-3, -1, "not shown"),
    ],
)
def test_a_claim_may_be_about_a_range(low: float, high: float | None, verdict: str) -> None:
    """The interval of the gain is -1.49 to -0.75."""
    gains = (-0.8, -1.0, -1.1, -1.1, -1.6)
    runs = {"with": [{"R@1": 50 + gain} for gain in gains], "without": [{"R@1": 50.0} for _ in gains]}
    assert outcome("fake", replace(fake(1.0), gain=(low, high)), runs).beyond["verdict"] == verdict
    turned = {"with": [{"R@1": 50 - gain} for gain in gains], "without": runs["without"]}
    row = outcome("fake", replace(fake(1.0, better="lower"), gain=(low, high)), turned)
    assert (row.beyond["verdict"], row.beyond["gain"]) == (verdict, [low, high])


def test_noise_shows_nothing() -> None:
    runs = {"with": [{"R@1": v} for v in (64.8, 57.9, 57.4, 61.7, 54.5)]}
    runs["without"] = [{"R@1": v} for v in (59.3, 57.7, 59.2, 58.5, 61.8)]
    row = outcome("fake", fake(1.0), runs)
    assert row.beyond["verdict"] == "not shown"
    assert row.target == "A gain helps. R@1, with − without: -0.04, 95 % interval -6.15 to +6.07: not shown"


def test_the_command_prints_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(claims, "load_claim", lambda name: fake(1.0))
    assert main(["bench", "claims", "fake", "--json", "--seeds", "3", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    (row,) = printed["rows"]
    assert (row["name"], row["verdict"], row["claim"]) == ("fake", "holds", "A gain helps.")
    assert row["arms"]["with"]["R@1"]["values"] == pytest.approx([1.0, 11.1, 21.2])
    assert row["arms"]["with"]["settings"] == {"gain": 1.0, "steps": 300}
    assert {"machine", "versions", "commit"} <= set(printed)


def test_claims_are_listed_and_mistakes_are_one_line(capsys: Any) -> None:
    assert main(["bench", "claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == claim_names()
    assert main(["bench", "claims", "quue"]) == 2
    assert capsys.readouterr().err == "tercet: unknown claim `quue`; did you mean `queue`?\n"
    assert main(["bench", "claims", "queue", "--seeds", "1"]) == 2
    assert capsys.readouterr().err == "tercet: --seeds is 1; give 3 or more\n"


def test_both_training_loops_are_the_same() -> None:
    """One differentiates `tercet.loss`, the other takes its gradients from the terms of a run."""
    objective = {"name": "sigmoid", "scale": 5.0, "bias": -3.0}
    pairs = [Pairs(seed).draw(16) for seed in range(3)]
    one, other = Towers(seed=1), Towers(seed=1)
    fit(one, objective, pairs.__getitem__, steps=3, lr=1e-2)
    term = TermConfig(between=FIELDS, objective=objective)
    fit_term(other, term, lambda step: batch_of(pairs[step], torch.arange(16)), steps=3, lr=1e-2)
    first = Towers(seed=1).state_dict()
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], atol=1e-5, rtol=1e-4)
        assert not torch.equal(weight, first[name])


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def shortened(settings: Any) -> Any:
    """An arm of two steps, also of models that it starts from."""
    return replace(settings, **{one.name: 2 for one in fields(settings) if one.name.endswith("steps")})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in ON_BUILT_IN_DATA else []) for name in claim_names()]
)
def test_every_claim_trains(name: str, monkeypatch: pytest.MonkeyPatch, short_runs: Path) -> None:
    """Two steps of every arm, on a few samples, but at least as many as there are clusters."""
    samples = 1_600 if name.startswith("protoclip") else 160
    few, generated = {"train": samples, "val": 20, "combinations": 0, "workers": 1}, built_in.generated
    monkeypatch.setattr(built_in, "generated", lambda world: generated(world.model_copy(update=few)))
    claim = load_claim(name)
    short = {arm: shortened(settings) for arm, settings in claim.arms.items()}
    runs = numbers(name, replace(claim, arms=short), [0], short_runs)
    assert all(claim.measure in run for each in runs.values() for run in each)
    assert len(runs) >= 2
    assert claim.says.endswith(".")
