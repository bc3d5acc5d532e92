"""The null models have the scores that they must have, and one of them detects each kind of broken evaluation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.load_tasks import load_tasks
from tercet.eval.ranking import ranking
from tercet.eval.ranking.ranking import Ranking
from tercet.eval.retrieval import retrieval
from tercet.eval.tables.table import plain_text
from tercet.eval.trust.self_test import THOROUGH, Check, self_test, trust
from tercet.eval.trust.self_test_table import render_checks

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond")
TASKS = ("retrieval", "zero_shot_shape", "composition")


def table(items: int = 90, captions: int = 2) -> EmbeddingTable:
    """Three modalities of a trained model; some items lack a sound, some describe the same thing."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(items, 24, generator=generator)
    item = {
        "image": torch.arange(items),
        "audio": torch.arange(0, items, 3),
        "text": torch.arange(items).repeat_interleave(captions),
    }
    vectors = {
        name: F.normalize(base[rows] + torch.randn(len(rows), 24, generator=generator), dim=1)
        for name, rows in item.items()
    }
    wrong = [{"kind": kind, "text": f"{kind} caption"} for kind in ("swapped", "relation")]
    samples = tuple(
        Sample(str(n), n, n // 2 if n < 20 else n, meta={"objects": [{"shape": SHAPES[n % 8]}], "negatives": wrong})
        for n in range(items)
    )
    return EmbeddingTable(vectors, item, samples)


def failing(checks: list[Check]) -> set[str]:
    return {check.model for check in checks if not check.holds}


def test_all_null_models_have_their_expected_scores() -> None:
    checks = self_test(table(), TASKS, replace(THOROUGH, draws=(16, 60)))
    assert failing(checks) == set()
    assert {check.model for check in checks} == {"constant", "random", "shuffled", "reordered"}
    assert {check.task for check in checks if check.model == "random"} == set(TASKS)
    assert all(check.scored == 0 for check in checks if check.model == "constant" and "rank" not in check.metric)


@pytest.mark.parametrize("items", [2, 7])
def test_the_self_test_passes_with_few_items(items: int) -> None:
    """However few draws there are, too: the tolerance follows their number."""
    assert failing(self_test(table(items), ["retrieval"], replace(THOROUGH, draws=(16, 40)))) == set()


@pytest.mark.long
def test_a_random_model_is_near_chance_however_few_items_there_are() -> None:
    """Sixteen draws of 27 items gave 2.3 to 2.5 % in the place of 3.7 %."""
    checks = self_test(table(27, captions=1), ["retrieval"])
    found = {check.subject: check for check in checks if (check.model, check.metric) == ("random", "R@1")}
    for subject in ("image→text", "text→image"):
        check = found[subject]
        assert abs(check.scored - check.expected) < 0.15 * check.expected
        assert 0 < check.tolerance < 0.5 * check.expected


def test_the_table_shows_the_tolerance() -> None:
    checks = [
        Check("constant", "retrieval", "image→text", "R@1", 0.0, 0.0),
        Check("random", "retrieval", "image→text", "R@1", 0.024, 0.037, 0.011),
        Check("shuffled", "retrieval", "image→text", "mean rank", 50.0, 48.0, 2.5, "at least"),
        *(
            Check("reordered", "geometry", name, "uniformity", value, value)
            for name, value in (("a", -2.0), ("b", -1.0))
        ),
    ]
    assert plain_text(render_checks(checks)).count("-2 to -1") == 2
    rows = [line.split() for line in plain_text(render_checks(checks)).splitlines() if "retrieval" in line]
    assert rows[0][4:] == ["0.0", "0.0", "exact", "holds"]
    assert rows[1][4:] == ["2.4", "3.7", "±", "1.1", "wrong:", "image→text"]
    assert rows[2][4:] == ["50", "at", "least", "48", "±", "2.5", "holds"]


Rank = Callable[..., Ranking]
GENUINE: Rank = ranking.rank_rights


def ties_are_right(*arguments: Any, **options: Any) -> Ranking:
    with patch.object(ranking, "TIE", -1e-6):
        return GENUINE(*arguments, **options)


def first_of_equals_wins(queries: Tensor, candidates: Tensor, *others: Any, **options: Any) -> Ranking:
    """Candidates that stand later are a little worse."""
    place = torch.linspace(1, 0.9, len(candidates), dtype=candidates.dtype)
    return GENUINE(queries, candidates * place[:, None], *others, **options)


def sees_the_answer(*arguments: Any, **options: Any) -> Ranking:
    """A leak: one query in ten is found whatever its vector."""
    found = GENUINE(*arguments, **options)
    seen = torch.arange(len(found.before_QK))[:, None] % 10 == 0
    return replace(found, before_QK=found.before_QK.masked_fill(seen, 0))


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        (ties_are_right, {"constant"}),
        (first_of_equals_wins, {"reordered"}),
        (sees_the_answer, {"random", "shuffled", "reordered"}),
    ],
)
def test_a_broken_ranking_is_caught(broken: Rank, caught: set[str]) -> None:
    with patch.object(retrieval, "rank_rights", broken):
        few = replace(THOROUGH, draws=(16, 16))
        assert failing(self_test(table(40), ["retrieval"], few)) >= caught
        with pytest.raises(UserError, match="the evaluation of task `retrieval` cannot be trusted: the"):
            trust(table(40), *load_tasks(["retrieval"]), confirm=few)


@pytest.mark.parametrize("items", [2, 64])
def test_every_evaluation_of_a_sound_kind_is_trusted(items: int) -> None:
    for task in load_tasks(TASKS):
        trust(table(items), task)
