"""Few-shot classification against loops, and the transport plan against a search over all assignments."""

from collections.abc import Iterator
from itertools import permutations

import pytest
import torch
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.eval import few_shot as module
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError
from tercet.eval.few_shot import FewShotTask
from tercet.eval.measure import Measure
from tercet.eval.null_models import reordered
from tercet.eval.self_test import self_test
from tercet.eval.transport import transport_plan

DIM = 12


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def task(**options: object) -> FewShotTask:
    usual = {"kind": "few_shot", "name": "few", "title": "Few-shot", "ways": 4, "episodes": 60, "queries": 6}
    return FewShotTask.model_validate({**usual, **options})


def made(spread: float, items: int = 120, classes: int = 6) -> EmbeddingTable:
    """Pictures around the centres of their classes. Every fifth belongs to the group of the picture before it."""
    random = torch.Generator().manual_seed(3)
    centre = torch.randn(classes, DIM, generator=random)[torch.arange(items) % classes]
    rows = normalize(centre + spread * torch.randn(items, DIM, generator=random), dim=1)
    samples = tuple(
        Sample(
            f"s{item}", item, item - classes * (item % 5 == 4 and item >= classes), meta={"label": f"c{item % classes}"}
        )
        for item in range(items)
    )
    return EmbeddingTable({"image": rows}, {"image": torch.arange(items)}, samples)


def measured(table: EmbeddingTable, one: FewShotTask) -> Measure:
    (found,) = one.measure(table, lambda texts: torch.zeros(len(texts), DIM), EvalConfig())
    return found


def value(table: EmbeddingTable, one: FewShotTask, metric: str = "acc1") -> float:
    return measured(table, one).statistics[metric].value


@pytest.mark.parametrize("shots", [1, 3])
def test_equals_a_loop_over_episodes_and_queries(shots: int) -> None:
    table, one = made(1.0), task(shots=shots)
    rows = table.vectors["image"].double()
    hits = []
    for episode in module._episodes(table, "image", one):
        prototypes = [sum(rows[at] for at in places) for places in episode.example_WS.tolist()]
        for at, right in zip(episode.query_Q.tolist(), episode.class_Q.tolist(), strict=True):
            cosines = [float(rows[at] @ (centre / centre.norm())) for centre in prototypes]  # type: ignore[union-attr]
            hits.append(cosines.index(max(cosines)) == right)
    found = measured(table, one)
    assert found.statistics["acc1"].value == pytest.approx(sum(hits) / len(hits))
    assert len(found.items) == len(hits)
    assert len(torch.unique(found.groups)) == 60
    assert found.chance == {"acc1": 0.25, "acc1_aligned": 0.25}


def test_episodes_never_share_a_group_between_examples_and_queries() -> None:
    table = made(1.0)
    drawn: set[int] = set()
    for episode in module._episodes(table, "image", task(shots=2)):
        examples, queries = episode.example_WS.flatten().tolist(), episode.query_Q.tolist()
        groups = [table.samples[at].group for at in examples + queries]
        assert len(groups) == len(set(groups))
        labels = [table.samples[at].meta["label"] for at in examples]
        assert len(set(labels)) == 4
        assert [table.samples[at].meta["label"] for at in queries] == [labels[2 * k] for k in episode.class_Q.tolist()]
        assert episode.class_Q.bincount().tolist() == [6] * 4
        drawn |= {*queries}
    assert len(drawn) > 80


def test_far_classes_are_told_apart_and_random_vectors_are_not() -> None:
    assert value(made(0.01), task()) == 1
    assert value(made(1e6, items=300), task(episodes=200)) == pytest.approx(0.25, abs=0.05)


def test_alignment_makes_up_for_unlucky_examples() -> None:
    """With one example each, the queries say more about where the classes are."""
    table, one = made(0.6), task(episodes=200, queries=12)
    assert value(table, one, "acc1_aligned") > value(table, one) + 0.03


def test_the_order_of_the_table_does_not_matter() -> None:
    table = made(1.0)
    for metric in ("acc1", "acc1_aligned"):
        assert value(reordered(table, 1), task(), metric) == pytest.approx(value(table, task(), metric))


def test_null_models_score_what_they_must() -> None:
    checks = self_test(made(1.0), [task(episodes=3)])
    assert {check.model for check in checks} == {"constant", "random", "reordered"}
    assert [check for check in checks if not check.holds] == []


def test_classes_come_from_meta_and_items_named_like_their_class_count_separately() -> None:
    meta = {"objects": [{"shape": "ring"}]}
    one = task(label="objects[0].shape", count={"objects": 1})
    assert one.label_of(Sample("a", 0, 0, meta=meta)) == "ring"
    assert one.label_of(Sample("a", 0, 0, meta={"objects": [{"shape": "ring"}, {"shape": "star"}]})) is None
    assert one.label_of(Sample("a", 0, 0)) is None
    samples = tuple(Sample(f"{n}", n, n % 2, meta={"class": "a b", "group": "A_b"}) for n in range(6))
    table = EmbeddingTable({"image": torch.eye(6)}, {"image": torch.arange(6)}, samples)
    assert {label: len(rows) for label, rows in module._classes(table, "image", task()).items()} == {"a b": 6}


def test_too_few_classes_are_an_error() -> None:
    with pytest.raises(EvalError, match="task `few` needs 7 classes with more than 1 samples that have image, and the"):
        value(made(1.0), task(ways=7))


def test_the_plan_has_uniform_margins_and_equals_plain_iterations() -> None:
    cost = torch.rand(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = transport_plan(cost, 0.1, 500)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((4,), 1 / 4, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(dim=0), torch.full((7,), 1 / 7, dtype=torch.float64))
    kernel, row = (-cost / 0.1).exp(), torch.ones(4, dtype=torch.float64)
    for _ in range(500):
        column = 1 / 7 / (kernel.T @ row)
        row = 1 / 4 / (kernel @ column)
    torch.testing.assert_close(plan, row[:, None] * kernel * column)


def test_with_little_entropy_the_plan_is_the_best_assignment() -> None:
    cost = torch.rand(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = min(permutations(range(5)), key=lambda order: sum(float(cost[i, j]) for i, j in enumerate(order)))
    assert tuple(transport_plan(cost, 1e-3, 2000).argmax(dim=1).tolist()) == best
