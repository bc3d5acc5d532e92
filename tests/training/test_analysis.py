"""The measures of the embedding space equal loops and closed forms, on any number of processes, and change no run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.eval.space import (
    alignment,
    effective_rank,
    matrix_mutual_information_ratio,
    modality_gap,
    uniformity,
)
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import on_ranks
from tercet.training.loop import analysis
from tercet.training.loop.analysis import analyse, penalty_entropy
from tests.training.tiny import recipe, run, saved

ITEMS, DIM, SCALE = 12, 6, 4.0
TERMS = (
    TermConfig(between=("image", "text")),
    TermConfig(between=("audio", "text"), objective=ObjectiveConfig(name="sigmoid")),
)
EXISTS = {"image": [0, 1, 3, 4, 5, 6, 7, 8, 11], "audio": [0, 3, 5, 6, 8, 9], "text": [0, 1, 2, 3, 4, 5, 7, 8, 9, 11]}
ALONE = {**EXISTS, "audio": [6]}  # no caption has this sound
OF_TERMS = ("alignment", "modality_gap", "mir", "penalty_entropy", "masked")
OF_FIELDS = ("uniformity", "effective_rank")
GROUPS = torch.tensor([0, 1, 2, 3, 0, 3, 4, 5, 0, 3, 6, 7])


def circle(points: int) -> Tensor:
    angle = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def random_rows(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_alignment_and_the_gap_of_two_rotated_circles() -> None:
    """Each point is 90° from its partner: a squared distance of 2, and both circles have the same centre."""
    assert float(alignment(circle(8), circle(8).roll(2, 0))) == pytest.approx(2)
    assert float(modality_gap(circle(8), circle(8).roll(2, 0))) == pytest.approx(0, abs=1e-12)
    one, other = torch.eye(3, dtype=torch.float64)[:2]
    assert float(modality_gap(one.expand(5, 3), other.expand(5, 3))) == pytest.approx(math.sqrt(2))


def test_the_uniformity_of_a_circle_is_that_of_its_integral() -> None:
    """The mean of exp(−2‖x − x'‖²) over a circle is exp(−4) I₀(4); pairs of a point with itself do not count."""
    whole = math.exp(-4) * float(torch.special.i0(torch.tensor(4.0, dtype=torch.float64)))
    assert float(uniformity(circle(50))) == pytest.approx(math.log((50 * whole - 1) / 49))


def test_the_uniformity_equals_a_loop() -> None:
    x = random_rows(9, 5)
    pairs = [math.exp(-2 * float((x[i] - x[j]).square().sum())) for i in range(9) for j in range(9) if i != j]
    assert float(uniformity(x)) == pytest.approx(math.log(sum(pairs) / len(pairs)))


def test_the_effective_rank_counts_the_directions_that_the_vectors_use() -> None:
    assert float(effective_rank(torch.eye(7, 9, dtype=torch.float64))) == pytest.approx(7)
    assert float(effective_rank(torch.eye(5, dtype=torch.float64).repeat(4, 1))) == pytest.approx(5)
    even = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))  # singular values 3 and 1
    assert float(effective_rank(torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)))) == pytest.approx(even)
    values = torch.linalg.svdvals(random_rows(20, 8))
    shares = (values / values.sum()).tolist()
    assert float(effective_rank(random_rows(20, 8))) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_equal_vectors_have_uniformity_0_and_effective_rank_1_and_no_mutual_information() -> None:
    x = random_rows(1, 8).repeat(10, 1)
    assert float(uniformity(x)) == pytest.approx(0, abs=1e-9)
    assert float(effective_rank(x)) == pytest.approx(1, rel=1e-5)
    assert math.isnan(float(matrix_mutual_information_ratio(x, random_rows(10, 8))))


def test_the_mutual_information_ratio_is_1_if_one_field_determines_the_other_and_0_if_they_are_independent() -> None:
    """On a grid of 3 × 4 items: x tells the row, y the column, and z both."""
    x = torch.eye(4, dtype=torch.float64)[torch.arange(12) // 4]
    y = torch.eye(4, dtype=torch.float64)[torch.arange(12) % 4]
    z = torch.eye(12, dtype=torch.float64)
    assert float(matrix_mutual_information_ratio(x, y)) == pytest.approx(0, abs=1e-9)
    assert float(matrix_mutual_information_ratio(x, z)) == pytest.approx(1)
    assert float(matrix_mutual_information_ratio(x, x)) == pytest.approx(1)


def test_the_mutual_information_ratio_equals_its_definition() -> None:
    x, y = random_rows(2, 10, 6)

    def entropy(gram: Tensor) -> float:
        return -sum(p * math.log(p) for p in torch.linalg.eigvalsh(gram / 10).tolist() if p > 1e-12)

    one, other, joint = entropy(x @ x.T), entropy(y @ y.T), entropy((x @ x.T) * (y @ y.T))
    assert float(matrix_mutual_information_ratio(x, y)) == pytest.approx((one + other - joint) / min(one, other))


def penalties(x: Tensor, y: Tensor, groups: list[int], scale: float) -> float:
    """The entropy of the relative penalties, by loops over the anchors of both directions and their negatives."""
    found = []
    for anchors, keys in ((x, y), (y, x)):
        for i in range(len(groups)):
            logits = [scale * float(anchors[i] @ keys[j]) for j in range(len(groups)) if groups[j] != groups[i]]
            total = sum(map(math.exp, logits))
            shares = [math.exp(logit) / total for logit in logits]
            if len(logits) > 1:
                found.append(-sum(p * math.log(p) for p in shares) / math.log(len(logits)))
    return sum(found) / len(found)


def test_the_penalty_entropy_equals_a_loop() -> None:
    x, y = random_rows(2, 7, 5)
    groups = [0, 1, 0, 2, 3, 1, 4]
    group_n = torch.tensor(groups)
    found = penalty_entropy(5.0 * x @ y.T, group_n[:, None] != group_n)
    assert float(found) == pytest.approx(penalties(x, y, groups, 5.0))


def test_the_penalty_entropy_is_1_for_equal_negatives_and_0_for_a_single_hard_one() -> None:
    others = ~torch.eye(6, dtype=torch.bool)
    assert float(penalty_entropy(torch.full((6, 6), 3.0), others)) == pytest.approx(1)
    one_hard = 1000.0 * torch.eye(6).roll(1, 0)
    assert float(penalty_entropy(one_hard, others)) == pytest.approx(0, abs=1e-9)
    assert math.isnan(float(penalty_entropy(torch.zeros(2, 2), ~torch.eye(2, dtype=torch.bool))))


def vectors() -> dict[str, Tensor]:
    return dict(zip(EXISTS, random_rows(len(EXISTS), ITEMS, DIM), strict=True))


def outcome(world: World, layout: Mapping[str, list[int]]) -> Outcome:
    own, fields, rows = list(world.share(range(ITEMS))), {}, {}
    for name, items in layout.items():
        here = [item for item in items if item in own]
        fields[name] = Field(name, torch.zeros(len(here)), torch.tensor([item - own[0] for item in here]).long())
        rows[name] = vectors()[name][here]
    scale, bias = torch.tensor([SCALE], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    temperatures: dict[str, tuple[Tensor, Tensor | None]] = {"image-text": (scale, None), "audio-text": (scale, bias)}
    return Terms(TERMS, tile=5)(Batch(torch.tensor(own), GROUPS[own], fields), rows, temperatures, world)


def analysed(world: World, layout: Mapping[str, list[int]], sample: int, step: int) -> dict[str, float]:
    analysis.SAMPLE = sample
    return analyse(outcome(world, layout), TERMS, seed=3, step=step)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """`analysed` may change the size of the sample in this process, too."""
    monkeypatch.setattr(analysis, "SAMPLE", analysis.SAMPLE)


@pytest.mark.usefixtures("small_sample")
def test_a_step_has_the_measures_of_the_rows_that_exist() -> None:
    found = analysed(World(), EXISTS, sample=100, step=1)
    expected: dict[str, float] = {}
    for one, other in (("image", "text"), ("audio", "text")):
        items = [item for item in EXISTS[one] if item in EXISTS[other]]
        x, y, groups = vectors()[one][items], vectors()[other][items], GROUPS[items].tolist()
        closed = sum(groups[i] == groups[j] for i in range(len(items)) for j in range(len(items)) if i != j)
        name = f"{one}-{other}"
        expected[f"{name}/masked"] = closed / (len(items) * (len(items) - 1))
        expected[f"{name}/alignment"] = 2 - 2 * sum(float(x[i] @ y[i]) for i in range(len(items))) / len(items)
        expected[f"{name}/modality_gap"] = math.dist(x.mean(dim=0).tolist(), y.mean(dim=0).tolist())
        expected[f"{name}/mir"] = float(matrix_mutual_information_ratio(x, y))
        expected[f"{name}/penalty_entropy"] = penalties(x, y, groups, SCALE)
    for name, items in EXISTS.items():
        expected[f"{name}/uniformity"] = float(uniformity(vectors()[name][items]))
        expected[f"{name}/effective_rank"] = float(effective_rank(vectors()[name][items]))
    assert found == pytest.approx(expected)


@pytest.mark.usefixtures("small_sample")
def test_what_has_no_value_is_left_out() -> None:
    found = analysed(World(), ALONE, sample=100, step=1)
    assert {name for name in found if "audio" in name} == {"audio/effective_rank"}
    broken = outcome(World(), EXISTS)
    broken.loss.fill_(math.nan)
    assert analyse(broken, TERMS, seed=3, step=1) == {}


@pytest.mark.usefixtures("small_sample")
def test_two_processes_measure_the_same_random_items() -> None:
    one = analysed(World(), EXISTS, 5, 7)
    for found in on_ranks(analysed, 2, EXISTS, 5, 7):
        assert found == pytest.approx(one, rel=1e-12)
    for other in (analysed(World(), EXISTS, 5, 8), analysed(World(), EXISTS, 100, 7)):
        assert other["image-text/alignment"] != pytest.approx(one["image-text/alignment"], rel=1e-6)


def run_all(world: World, jobs: list[tuple[dict[str, Any], int | None]]) -> None:
    for values, stop in jobs:
        run(world, values, stop)


def measures(out: Path) -> dict[int, dict[str, float]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {
        line["step"]: {name: value for name, value in line.items() if name.startswith("analysis/")} for line in lines
    }


def test_a_run_is_bit_equal_with_and_without_analysis_and_when_it_resumes(world_folder: Path, tmp_path: Path) -> None:
    def job(name: str, **changes: Any) -> dict[str, Any]:
        log = {"to": [], "every": 4, "analysis": name != "without"}
        return recipe(world_folder, tmp_path / name, zero=0, steps=10, log=log, **changes)

    parts = job("parts", checkpoint={"every": 5})
    on_ranks(run_all, 1, [(job("with"), None), (job("without"), None), (parts, 6), (parts, None)])
    on_ranks(run_all, 2, [(job("two"), None)])
    whole = saved(tmp_path / "with")
    for name in ("without", "parts"):
        other = saved(tmp_path / name)
        assert [key for key in whole if not torch.equal(whole[key], other[key])] == []
    found = measures(tmp_path / "with")
    assert [step for step, values in found.items() if values] == [1, 4, 8, 10]
    assert not any(measures(tmp_path / "without").values())
    assert measures(tmp_path / "parts") == found
    for step, values in measures(tmp_path / "two").items():
        assert values == pytest.approx(found[step], rel=1e-3)
    terms = {f"{term}/{measure}" for term in ("image-text", "audio-text", "image-audio") for measure in OF_TERMS}
    fields = {f"{field}/{measure}" for field in ("image", "audio", "text") for measure in OF_FIELDS}
    assert found[10].keys() == {f"analysis/{name}" for name in terms | fields}
