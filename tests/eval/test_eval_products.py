"""Products of all pairs: the results of the CPU on an accelerator that is not there, on a real one if there is one, and
on several ranks; full precision; what memory on the device grows with."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

import tercet.eval.load_tasks  # noqa: F401  registers every kind of task
from tercet.data_pipelines.sample import Sample
from tercet.distributed import CPU, World
from tercet.eval import products
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.measure import results
from tercet.eval.probes import few_shot
from tercet.eval.products import FEW, TILE, device_for, inner, nearest
from tercet.eval.ranking import ranking
from tercet.eval.ranking.ranking import Ranking, rank_rights
from tercet.eval.ranking.rights import Rights
from tercet.eval.report.gallery import galleries
from tercet.eval.result import Result
from tercet.eval.retrieval.reduced import reduced_set
from tercet.eval.task import KINDS, Task
from tercet.eval.trust.null_models import random_text
from tercet.eval.trust.shortcuts import ridge_recall
from tercet.testing import on_ranks
from tests.eval.elsewhere import DEVICE, Elsewhere

ITEMS, DIM = TILE + 20, 8
REAL = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
)
CLASSES = {"boat": "a boat", "car": "a car", "dog": "a dog"}
WORDED: dict[str, Any] = {"what": "class", "classes": CLASSES, "templates": ["a photo of {class}."]}
TASKS: dict[str, dict[str, Any]] = {
    "retrieval": {"further": ["nDCG@5", "mAP", "median rank"], "relevance": "grades"},
    "zero_shot": WORDED,
    "calibration": {**WORDED, "scale": 10.0},
    "multi_label": {**WORDED, "label": "labels"},
    "knn": {"folds": 2, "neighbours": 5},
    "geometry": {"items": ITEMS},
    "combined_retrieval": {"query": {"text": 1.0}, "document": {"image": 0.8, "text": 0.2}},
    "prototypes": {"kind": "few_shot", "ways": 3, "episodes": 3},
    "transport": {"kind": "few_shot", "ways": 3, "episodes": 3, "method": "transport"},
    "tip_adapter": {"kind": "few_shot", "ways": None, "episodes": 2, "method": "tip_adapter", "classes": CLASSES},
    "clip_adapter": {
        "kind": "few_shot",
        "ways": None,
        "episodes": 2,
        "method": "clip_adapter",
        "classes": CLASSES,
        "steps": 3,
    },
}


def unit(*shape: int, seed: int) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def table() -> EmbeddingTable:
    """Pictures with two captions each, in groups of two, with a class, several labels, and a grade of another."""
    image = unit(ITEMS, DIM, seed=0)
    text = normalize(image.repeat_interleave(2, dim=0) + 0.6 * unit(2 * ITEMS, DIM, seed=1), dim=1)
    names = list(CLASSES)
    samples = tuple(
        Sample(f"s{n}", n, n // 2, text=("a", "b"), meta={
            "label": names[n // 2 % 3], "labels": names[: n % 3], "grades": {f"s{(n + 2) % ITEMS}": 2},
        })
        for n in range(ITEMS)
    )  # fmt: skip
    items = {"image": torch.arange(ITEMS), "text": torch.arange(ITEMS).repeat_interleave(2)}
    return EmbeddingTable({"image": image, "text": text}, items, samples)


def task(name: str) -> Task:
    given = {"kind": name, "name": name, "title": name, **TASKS[name]}
    made = KINDS.get(str(given["kind"])).model_validate(given)
    assert isinstance(made, Task)
    return made


@pytest.fixture(autouse=True)
def few_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot, "VALIDATED", 2)


def measured(name: str, world: World) -> list[Result]:
    return results(task(name).measure(replace(table(), world=world), random_text(DIM, seed=2), EvalConfig()))


def close(found: list[Result], expected: list[Result]) -> bool:
    """Up to the rounding of probabilities."""
    pairs = zip(found, expected, strict=True)
    return all(one.name == two.name and abs(one.value - two.value) < 1e-6 for one, two in pairs)


@pytest.mark.parametrize("device", [pytest.param(DEVICE, id="pretended"), REAL])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_the_same_results_on_an_accelerator(name: str, device: torch.device | str) -> None:
    world, expected = World(device=torch.device(device)), measured(name, World())
    with patch.object(products, "FEW", 0), Elsewhere() if device == DEVICE else nullcontext() as elsewhere:
        found = measured(name, world)
    assert close(found, expected)
    assert elsewhere is None or elsewhere.products > 0


def reduced(made: EmbeddingTable) -> object:
    return reduced_set([made], 7, 3)


def baselines(made: EmbeddingTable) -> object:
    return ridge_recall(table(), made)


def examples(made: EmbeddingTable) -> object:
    """Which hits of the galleries of a report are right."""
    shown = galleries(made, lambda id: made.samples[id], 16000)
    return [[hit.correct for hit in search.hits] for gallery in shown for search in gallery.searches]


@pytest.mark.parametrize("device", [pytest.param(DEVICE, id="pretended"), REAL])
@pytest.mark.parametrize("made", [reduced, baselines, examples])
def test_reduced_sets_baselines_and_examples_are_the_same_on_an_accelerator(
    made: Callable[[EmbeddingTable], object], device: torch.device | str
) -> None:
    expected = made(table())
    with patch.object(products, "FEW", 0), Elsewhere() if device == DEVICE else nullcontext() as elsewhere:
        assert made(replace(table(), world=World(device=torch.device(device)))) == expected
    assert elsewhere is None or elsewhere.products > 0


def of_rank(world: World) -> dict[str, list[Result]]:
    return {name: measured(name, world) for name in ("zero_shot", "geometry", "combined_retrieval")}


def test_ranks_that_share_the_queries_have_the_results_of_one_to_the_bit() -> None:
    alone = of_rank(World())
    for together in on_ranks(of_rank, 2):
        assert together == alone


def test_the_pretended_accelerator_refuses_what_a_real_one_would() -> None:
    here = unit(3, 2, seed=0)
    with Elsewhere():
        there = here.to(DEVICE)
        refused: dict[str, Callable[[], object]] = {
            "on the CPU and on the accelerator": lambda: there @ here.T,
            "waits": lambda: float(there[0, 0]),
        }
        for words, wrong in refused.items():
            with pytest.raises(RuntimeError, match=words):
                wrong()
        assert (there @ there.T).cpu().equal(here @ here.T)


def test_only_work_that_is_worth_the_way_goes_to_the_device() -> None:
    world, queries = World(device=DEVICE), unit(FEW // 10, 2, seed=0)
    assert device_for(queries, queries[:10], world) == CPU
    assert device_for(queries, queries[:11], world) == DEVICE


@pytest.mark.parametrize("many", [ranking.MANY, 0])
@pytest.mark.parametrize("graded", [False, True])
def test_ranks_on_the_device_are_equal_and_hold_no_more_than_a_tile_and_the_candidates(many: int, graded: bool) -> None:
    queries, candidates, groups = unit(90, DIM, seed=3), unit(120, DIM, seed=4), torch.arange(120) % 45
    rights = Rights.of_groups(groups[:90], groups)
    rights = replace(rights, grade=rights.column % 3 + 1.0 if graded else None)

    def ranked(world: World) -> Ranking:
        return rank_rights(queries, candidates, rights, depth=None, tile=16, width=50, world=world)

    with patch.object(products, "FEW", 0), patch.object(ranking, "MANY", many):
        expected = ranked(World())
        with Elsewhere() as elsewhere:
            found = ranked(World(device=DEVICE))
    assert found.before_QK.equal(expected.before_QK)
    assert found.ndcg(5).equal(expected.ndcg(5))
    assert elsewhere.largest == max(16 * 50, 120 * DIM)


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 14), st.booleans(), st.integers(0, 9))
def test_the_nearest_candidates_are_those_of_a_sorted_list(
    queries: int, candidates: int, k: int, apart: bool, seed: int
) -> None:
    own, theirs = torch.arange(queries) % 3, torch.arange(candidates) % 4
    x, y = unit(queries, DIM, seed=seed), unit(candidates, DIM, seed=seed + 100)
    with patch.object(products, "TILE", 4):
        found = nearest(x, y, k, World(), apart=(own, theirs) if apart else None)
    for query, (scores, places) in enumerate(zip(*(rows.tolist() for rows in found), strict=True)):
        others = [c for c in range(candidates) if not apart or theirs[c] != own[query]]
        order = sorted(others, key=lambda c: -float(x[query] @ y[c]))[:k]
        assert places[: len(order)] == order
        assert scores[: len(order)] == pytest.approx([float(x[query] @ y[c]) for c in order], abs=1e-6)
        assert set(scores[len(order) :]) <= {-torch.inf}
        assert len(scores) == min(k, candidates)


class Precision(TorchDispatchMode):
    """Notes the settings during products of matrices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            self.seen = (*newer(), torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)
        return func(*args, **(kwargs or {}))


def newer() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def untouched() -> Iterator[None]:
    before = newer()
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision = before


def by_the_older() -> None:
    torch.set_float32_matmul_precision("medium")


def by_the_flag() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def by_the_newer() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("lower", [by_the_older, by_the_flag, by_the_newer])
def test_products_have_full_precision_whatever_the_settings_of_torch(lower: Callable[[], None]) -> None:
    lower()
    before, rows = newer(), unit(5, 3, seed=0)
    with Precision() as precision:
        inner(rows, rows)
    assert precision.seen == ("ieee", "ieee", "highest", False)
    assert newer() == before
    if lower is not by_the_newer:
        assert torch.get_float32_matmul_precision() == ("medium" if lower is by_the_older else "high")
