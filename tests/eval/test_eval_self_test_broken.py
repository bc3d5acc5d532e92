"""Null models detect what is broken in a task: ties that are right, ranks that are off, tests on what was learned."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.eval import geometry
from tercet.eval.classification import classified, mean_precision
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.probes import few_shot, probe, splits
from tercet.eval.probes.labelled import Labelled
from tercet.eval.probes.splits import Split, SplitTask
from tercet.eval.ranking.ranking import TIE, Ranking
from tercet.eval.retrieval import combined, reduced
from tercet.eval.trust.self_test import QUICK, self_test, trust
from tests.eval.judged import EVERY, TABLE, failing, reduced_task


def ties_are_right(scores_nK: Tensor, labels_n: Tensor) -> Tensor:
    return (scores_nK > scores_nK.gather(1, labels_n[:, None]) + TIE).sum(dim=1) + 1


def of_the_next_class(scores_nK: Tensor, labels_n: Tensor) -> Tensor:
    return GENUINE_PLACE(scores_nK, (labels_n + 1) % scores_nK.shape[1])


def one_place_better(*arguments: Any, **options: Any) -> Ranking:
    found = GENUINE_RANK(*arguments, **options)
    return replace(found, before_QK=(found.before_QK - 1).clamp(min=0))


def sees_the_answer(*arguments: Any, **options: Any) -> Ranking:
    """One query in four is found whatever its vector."""
    found = GENUINE_RANK(*arguments, **options)
    return replace(found, before_QK=found.before_QK * (torch.arange(len(found.before_QK)) % 4 > 0)[:, None])


def learns_from_the_tested(data: Labelled, task: SplitTask) -> Iterator[Split]:
    for one in splits.splits(data, task):
        yield replace(one, train_n=torch.cat([one.train_n, one.test_n]))


def joined_with_the_tested(known: Labelled, tested: Labelled) -> tuple[Labelled, Split]:
    both, split = splits.joined(known, tested)
    return both, replace(split, train_n=torch.arange(len(both.samples)))


def examples_are_queries(*arguments: Any, **options: Any) -> Iterator[few_shot.Episode]:
    for one in GENUINE_EPISODES(*arguments, **options):
        ways, shots = one.example_WS.shape
        label = torch.arange(ways).repeat_interleave(shots)
        yield few_shot.Episode(
            one.example_WS, torch.cat([one.query_Q, one.example_WS.flatten()]), torch.cat([one.class_Q, label])
        )


def counts_itself(scores_M: Tensor, right_M: Tensor) -> Tensor:
    """The precision at a rank that is one too good."""
    right_P = scores_M[right_M].double().sort(descending=True).values
    before_P = torch.stack([(scores_M[~right_M].double() >= score - TIE).sum() for score in right_P])
    nth_P = torch.arange(1, len(right_P) + 1, dtype=torch.float64)
    return (nth_P / (nth_P + (before_P - 1).clamp(min=0))).mean()


def one_half_for_both(both_n2d: Tensor, group_n: Tensor) -> Tensor:
    """The classifier is tested on what it was fitted to."""
    return GENUINE_SEPARATED(both_n2d.repeat(2, 1, 1), torch.arange(2).repeat_interleave(len(group_n)))[: len(group_n)]


def first_of_the_table(self: geometry.GeometryTask, table: EmbeddingTable, items: list[int]) -> list[int]:
    return items[: self.items]


GENUINE_RANK, GENUINE_EPISODES, GENUINE_SEPARATED = classified.rank, few_shot.episodes, geometry.separated
GENUINE_PLACE = probe.place_of_right
BROKEN: list[tuple[str, Any, str, Callable[..., Any], set[str]]] = [
    ("zero-shot", classified, "rank", one_place_better, {"random"}),
    ("several labels", mean_precision, "average_precision", counts_itself, {"constant", "random"}),
    ("folds", probe, "place_of_right", ties_are_right, {"constant"}),
    ("own split", probe, "place_of_right", ties_are_right, {"constant"}),
    ("prototypes", few_shot, "place_of_right", ties_are_right, {"constant"}),
    ("folds", probe, "place_of_right", of_the_next_class, {"informed"}),
    ("other data, knn", probe, "place_of_right", of_the_next_class, {"informed"}),
    ("prototypes", few_shot, "place_of_right", of_the_next_class, {"informed"}),
    ("folds", probe, "splits", learns_from_the_tested, {"random", "shuffled"}),
    ("own split", probe, "splits", learns_from_the_tested, {"random", "shuffled"}),
    ("several labels, probe", probe, "splits", learns_from_the_tested, {"random", "shuffled"}),
    ("other data", probe, "joined", joined_with_the_tested, {"random", "shuffled"}),
    ("other data, knn", probe, "joined", joined_with_the_tested, {"random", "shuffled"}),
    ("prototypes", few_shot, "episodes", examples_are_queries, {"random", "shuffled"}),
    ("combined", combined, "rank", one_place_better, {"constant"}),
    ("geometry", geometry, "rank", sees_the_answer, {"constant", "random", "shuffled"}),
    ("geometry", geometry, "separated", one_half_for_both, {"random"}),
    ("geometry", geometry.GeometryTask, "_chosen", first_of_the_table, {"reordered"}),
]


@pytest.mark.parametrize(
    ("name", "place", "part", "broken", "caught"), BROKEN, ids=[f"{one[0]}: {one[3].__name__}" for one in BROKEN]
)
def test_a_broken_task_is_caught(
    name: str, place: object, part: str, broken: Callable[..., Any], caught: set[str]
) -> None:
    task, _ = EVERY[name]
    with patch.object(place, part, broken):
        assert failing(self_test(TABLE, [task], QUICK)) >= caught


def test_an_evaluation_by_a_broken_probe_stops() -> None:
    said = r"task `knn` cannot be trusted: the random model scores .* it must score at most 25.0 %"
    with patch.object(probe, "joined", joined_with_the_tested), pytest.raises(UserError, match=said):
        trust(TABLE, EVERY["other data, knn"][0], QUICK)


def test_a_reduced_set_with_a_broken_ranking_is_caught(tmp_path: Path) -> None:
    task = reduced_task(tmp_path)
    with patch.object(reduced, "rank", one_place_better):
        assert failing(self_test(TABLE, [task], QUICK)) >= {"constant"}
