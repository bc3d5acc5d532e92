"""The measures of the task `geometry` against loops, closed forms and shapes whose geometry is known."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import skew
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.eval.compare import compare
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.geometry import GeometryTask, hubness, largest_hub, separated, shifted
from tercet.eval.load_tasks import load_task
from tercet.eval.measure import Measure, results
from tercet.eval.result import from_json, to_json
from tercet.eval.space import effective_rank, uniformity
from tercet.eval.statistics.jackknife import Jackknifed
from tercet.eval.tables.table import table_text
from tercet.eval.trust.null_models import reordered

ITEMS, DIM = 40, 8


def task(**options: object) -> GeometryTask:
    return GeometryTask.model_validate({"kind": "geometry", "name": "geometry", "title": "Geometry", **options})


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(gap: float = 0.0, items: int = ITEMS, group: int = 1) -> EmbeddingTable:
    """Pictures and texts around the same points; all texts are moved by `gap` along the first axis."""
    base = noise(0, items, DIM)
    move = torch.eye(DIM, dtype=torch.float64)[0] * gap
    vectors = {
        "image": normalize(base + 0.2 * noise(1, items, DIM), dim=1),
        "text": normalize(base + 0.2 * noise(2, items, DIM) + move, dim=1),
    }
    samples = tuple(Sample(f"s{n}", n, n // group) for n in range(items))
    return EmbeddingTable(vectors, dict.fromkeys(vectors, torch.arange(items)), samples)


def measured(table: EmbeddingTable, **options: object) -> dict[str, Measure]:
    found = task(**options).measure(table, lambda texts: torch.zeros(len(texts), DIM), EvalConfig())
    return {one.subject: one for one in found}


def value(table: EmbeddingTable, subject: str, metric: str, **options: object) -> float:
    return measured(table, **options)[subject].statistics[metric].value


def test_the_measures_equal_loops() -> None:
    table = made(0.5)
    x, y = table.vectors["image"], table.vectors["text"]
    n = range(ITEMS)
    pairs = [math.exp(-2 * float((x[i] - x[j]).square().sum())) for i in n for j in range(i)]
    singular = torch.linalg.svdvals(x)
    share = singular / singular.sum()
    nearest = [sorted(n, key=lambda j: -float(x[i] @ y[j]))[:10] for i in n]
    counts = [sum(j in row for row in nearest) for j in n]
    found = measured(table)
    assert found["image"].statistics["uniformity"].value == pytest.approx(math.log(sum(pairs) / len(pairs)))
    assert found["image"].statistics["effective rank"].value == pytest.approx(
        math.exp(-sum(s * math.log(s) for s in share.tolist()))
    )
    both, forth = found["image, text"].statistics, found["image→text"].statistics
    assert both["alignment"].value == pytest.approx(sum(float((x[i] - y[i]).square().sum()) for i in n) / ITEMS)
    assert both["modality gap"].value == pytest.approx(float((x.mean(0) - y.mean(0)).norm()))
    assert forth["hubness"].value == pytest.approx(skew(counts))
    assert forth["largest hub"].value == pytest.approx(max(counts) / ITEMS)
    assert forth["R@1"].value == pytest.approx(sum(row[0] == i for i, row in enumerate(nearest)) / ITEMS)
    moved = [x[i] + (y.mean(0) - x.mean(0)) for i in n]  # CLOSE's shift of the mean, normalised again
    hits = sum(max(n, key=lambda j: float(moved[i] @ y[j] / moved[i].norm())) == i for i in n)
    assert forth["R@1 shifted"].value == pytest.approx(hits / ITEMS)


def test_a_gap_is_measured_separable_and_closed_by_the_shift() -> None:
    near, far = made(0.0), made(6.0)
    assert value(far, "image, text", "modality gap") > 2 * value(near, "image, text", "modality gap")
    assert value(far, "image, text", "separability") > 0.9
    assert abs(value(near, "image, text", "separability") - 0.5) < 0.2
    assert value(far, "image→text", "R@1 shifted") >= value(far, "image→text", "R@1")
    x, y = far.vectors["image"], far.vectors["text"]
    moved = shifted(x, y)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(ITEMS, dtype=torch.float64))
    assert float((moved.mean(0) - y.mean(0)).norm()) < 0.3 * float((x.mean(0) - y.mean(0)).norm())


def test_the_classifier_of_modalities_is_tested_on_other_groups() -> None:
    """Vectors that are the same in both modalities cannot be told apart, however many dimensions there are."""
    same = normalize(noise(3, 12, 30), dim=1)
    assert float(separated(torch.stack([same, same], dim=1), torch.arange(12)).sum()) == 0  # ties are wrong
    apart = torch.stack([same, -same.abs()], dim=1)
    assert separated(apart.abs() * torch.tensor([[[1.0], [-1.0]]]), torch.arange(12)).mean() == 1


def test_hubs_and_their_skewness() -> None:
    even = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    assert (hubness(even, 4), largest_hub(even)) == (0, 0.5)
    one = torch.zeros(9, 1, dtype=torch.long)
    assert hubness(one, 9) == pytest.approx(float(skew([9] + [0] * 8)))
    assert largest_hub(one) == 1


def test_near_duplicates_are_those_of_other_groups() -> None:
    rows = torch.eye(DIM, dtype=torch.float64)[[0, 0, 1, 2, 3, 3, 4, 5]]
    samples = tuple(Sample(f"s{n}", n, [0, 1, 2, 3, 4, 4, 5, 6][n]) for n in range(8))
    table = EmbeddingTable({"image": rows}, {"image": torch.arange(8)}, samples)
    assert value(table, "image", "near-duplicates") == 2 / 8
    assert [*measured(table)] == ["image"]


def test_groups_widen_intervals_and_constant_vectors_have_finite_results() -> None:
    alone, together = measured(made()), measured(made(group=5))
    for subject, metric in (("image, text", "alignment"), ("image", "uniformity"), ("image→text", "R@1")):
        widths = []
        for found in (alone, together):
            estimate = found[subject].statistics[metric].estimate(found[subject].groups)
            assert estimate.low <= estimate.value <= estimate.high
            widths.append(estimate.high - estimate.low)
        assert widths[0] > 0
    one = torch.ones(ITEMS, DIM, dtype=torch.float64) / DIM**0.5
    table = made()
    constant = EmbeddingTable(dict.fromkeys(table.vectors, one), table.items, table.samples)
    found = results(measured(constant).values())
    assert all(math.isfinite(number) for result in found for number in (result.value, result.low, result.high))
    by_name = {result.name: result.value for result in found}
    assert by_name["image→text R@1"] == by_name["image, text separability"] == 0
    assert by_name["image near-duplicates"] == 1
    assert by_name["image effective rank"] == pytest.approx(1)


@pytest.mark.parametrize("measure", [uniformity, effective_rank])
def test_an_interval_holds_what_is_expected_of_so_many_items(measure: Callable[[Tensor], Tensor]) -> None:
    """The mean over 60 samples of 40 items."""
    drawn = [normalize(noise(seed, ITEMS, 4), dim=1) for seed in range(60)]
    values = [float(measure(rows)) for rows in drawn]
    expected, held = sum(values) / len(values), 0
    for rows in drawn:
        _, low, high = Jackknifed(rows, lambda rows: float(measure(rows))).estimate(torch.arange(ITEMS))
        held += low <= expected <= high
    assert held >= 54


def test_the_order_of_the_table_does_not_matter_and_few_items_may_be_drawn() -> None:
    table = made(1.0)
    for subject, metric in (("image", "uniformity"), ("image→text", "hubness"), ("image, text", "alignment")):
        assert value(reordered(table, 1), subject, metric, items=20) == pytest.approx(
            value(table, subject, metric, items=20)
        )
    assert len(measured(table, items=20)["image"].items) == 20


def test_tables_json_and_differences_hold_numbers_that_nobody_can_guess() -> None:
    measures = [*measured(made(2.0)).values()]
    found = results(measures, "val")
    again = from_json(to_json(found, "model"))
    assert [(one.name, one.chance, one.above_chance) for one in again] == [
        (one.name, one.chance, one.above_chance) for one in found
    ]
    assert next(one for one in found if one.metric == "alignment").above_chance is None
    text = table_text(found)
    assert "uniformity" in text
    assert "alignment" in text
    assert "effective\nrank" not in text
    assert all(
        one.better is None and one.verdict == ""
        for one in compare(measures, [*measured(made()).values()])
        if one.metric != "R@1" and one.metric != "R@1 shifted"
    )


def test_a_single_group_is_an_error() -> None:
    with pytest.raises(EvalError, match="task `geometry` needs two groups of samples or more that have image"):
        measured(made(group=ITEMS))
    assert isinstance(load_task("geometry"), GeometryTask)
