"""Every kind of task is judged: sound ones hold, and a null model detects what is broken, also in a plugin's kind."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval import geometry
from tercet.eval.classification import classified, multi_label
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.probes import few_shot, probe, splits
from tercet.eval.probes.knn import NearestNeighboursTask
from tercet.eval.probes.labelled import Labelled
from tercet.eval.probes.linear_probe import LinearProbeTask
from tercet.eval.probes.splits import Split, SplitTask
from tercet.eval.ranking.ranking import TIE, Ranking
from tercet.eval.retrieval import combined, reduced
from tercet.eval.retrieval.reduced import reduced_set
from tercet.eval.retrieval.retrieval import RetrievalTask
from tercet.eval.statistics.intervals import MeanRank, Share, Statistic
from tercet.eval.task import KINDS, Task
from tercet.eval.trust.self_test import QUICK, Check, self_test, trust

ITEMS, DIM, CLASSES = 64, 16, 4
WORDS = {f"c{number}": f"thing {number}" for number in range(CLASSES)}
PROMPTED = {"what": "class", "classes": WORDS, "templates": ["a {class}"]}


def not_again(source: str | None, towers: bool) -> EmbeddingTable:
    raise AssertionError("a self-test must not embed again")


def made() -> EmbeddingTable:
    """Pictures and two captions of each, around the centres of four equally frequent classes. Some share a group."""
    random = torch.Generator().manual_seed(0)
    label = torch.arange(ITEMS) % CLASSES
    base = torch.randn(CLASSES, DIM, generator=random)[label] + torch.randn(ITEMS, DIM, generator=random)
    items = {"image": torch.arange(ITEMS), "text": torch.arange(ITEMS).repeat_interleave(2)}
    vectors = {
        name: normalize(base[rows] + torch.randn(len(rows), DIM, generator=random), dim=1)
        for name, rows in items.items()
    }
    samples = tuple(
        Sample(f"s{n}", n, n - 2 * CLASSES * (n % 9 == 8), meta={
            "label": f"c{n % CLASSES}", "labels": [f"c{n % CLASSES}", *(["c0"] if n % 3 == 0 else [])],
            "split": "train" if n // CLASSES % 2 else "test", "score": n % 7, "query": f"query {n}",
            "title": f"title {n}", "same": f"query {n}", "related": {f"s{n + 1}": 2.0} if n + 1 < ITEMS else {},
        })
        for n in range(ITEMS)
    )  # fmt: skip
    return EmbeddingTable(vectors, items, samples, again=not_again, scales={"image": 20.0})


TABLE = made()


def of_kind(kind: str, **options: object) -> Task:
    found = KINDS.get(kind).model_validate({"kind": kind, "name": kind, "title": kind, **options})
    assert isinstance(found, Task)
    return found


@pytest.fixture(scope="module")
def reduced_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reduced") / "set.json"
    reduced_set([TABLE], 60, 3).write(path)
    return path


EVERY: dict[str, tuple[Task, set[str]]] = {  # a task, and the metrics of which random vectors say nothing
    "graded": (of_kind("retrieval", relevance="related", further=["mAP", "nDCG@5", "median rank"]), {"median rank"}),
    "zero-shot": (of_kind("zero_shot", **PROMPTED), set()),
    "several labels": (of_kind("multi_label", **PROMPTED), set()),
    "calibration": (of_kind("calibration", **PROMPTED), {"calibration error"}),
    "folds": (of_kind("linear_probe"), set()),
    "own split": (of_kind("knn", train={"split": "train"}), set()),
    "other data": (of_kind("linear_probe", learn_from="other.csv", vectors="tower"), set()),
    "other data, knn": (of_kind("knn", learn_from="other.csv"), set()),
    "several labels, probe": (of_kind("multi_label_probe"), set()),
    "prototypes": (of_kind("few_shot", ways=3, queries=2), set()),
    "adapter": (of_kind("few_shot", method="clip_adapter", ways=None, shots=[1, 4]), set()),
    "combined": (
        of_kind("combined_retrieval", query={"json.query": 1}, document={"image": 0.9, "json.title": 0.1}),
        {"median rank"},
    ),
    "similarity": (of_kind("similarity", first="image", second="json.query"), set()),
    "geometry": (
        of_kind("geometry", items=30, neighbours=3),
        {"modality gap", "uniformity", "effective rank", "near-duplicates", "hubness", "largest hub"},
    ),
}


def failing(checks: list[Check]) -> set[str]:
    return {check.model for check in checks if not check.holds}


@pytest.mark.parametrize("name", EVERY)
def test_every_kind_is_judged_and_nothing_is_embedded_again(name: str) -> None:
    task, unknown = EVERY[name]
    checks = self_test(TABLE, [task], QUICK)
    assert [check for check in checks if not check.holds] == []
    every = {check.metric for check in checks}
    assert {check.metric for check in checks if check.model == "reordered"} == every
    assert {check.metric for check in checks if check.model == "random"} == every - unknown
    assert {check.metric for check in checks if check.model == "constant"} == every - {"hubness", "largest hub"}
    knowing = isinstance(task, LinearProbeTask | NearestNeighboursTask) or name == "prototypes"
    assert any(check.model == "informed" for check in checks) == knowing


def test_a_reduced_set_is_judged_on_those_of_its_samples_that_are_there(reduced_file: Path) -> None:
    task = of_kind("reduced_retrieval", file=reduced_file)
    checks = self_test(TABLE, [task], replace(QUICK, items=40))
    assert failing(checks) == set()
    assert {check.model for check in checks} == {"constant", "random", "shuffled", "reordered"}
    ranks = [check.expected for check in checks if (check.model, check.metric) == ("constant", "mean rank")]
    assert 1 < max(ranks) <= 2 * 40
    fewer = replace(TABLE, samples=tuple(Sample(f"t{one.key}", one.id, one.group) for one in TABLE.samples))
    with pytest.raises(EvalError, match="is not in the data, nor are"):
        self_test(fewer, [task], QUICK)


def test_texts_that_give_the_answer_away_are_no_test() -> None:
    """The same text in a query and in its document, or one modality on both sides: random vectors find it."""
    for query, document in (({"json.query": 1}, {"json.same": 1}), ({"text": 1}, {"image": 1, "text": 1})):
        checks = self_test(TABLE, [of_kind("combined_retrieval", query=query, document=document)], QUICK)
        assert {check.model for check in checks} == {"constant", "reordered"}
        assert failing(checks) == set()
    pairs = of_kind("similarity", first="json.query", second="json.same")
    assert {check.model for check in self_test(TABLE, [pairs], QUICK)} == {"constant", "reordered"}


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
    ("several labels", multi_label, "average_precision", counts_itself, {"constant", "random"}),
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


def test_a_reduced_set_with_a_broken_ranking_is_caught(reduced_file: Path) -> None:
    with patch.object(reduced, "rank", one_place_better):
        assert failing(self_test(TABLE, [of_kind("reduced_retrieval", file=reduced_file)], QUICK)) >= {"constant"}


class Plugin(Task):
    """How often an item's picture is nearer to its own caption than to that of the item with the next id."""

    nulls: bool = False

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        order = torch.tensor([sample.id for sample in table.samples]).argsort()
        first = table.first_rows("text")
        x_nd, y_nd = table.vectors["image"][order], table.vectors["text"][[first[item] for item in order.tolist()]]
        won = self.won((x_nd * y_nd).sum(dim=1), (x_nd * y_nd.roll(1, 0)).sum(dim=1))
        known = NullScores({"nearer": 0.0}, {"nearer": 0.5}, {"nearer": 0.5}) if self.nulls else NullScores()
        statistics: dict[str, Statistic] = {"nearer": Share(won), "rank": MeanRank(2 - won.long(), 2)}
        return [Measure("pairs", statistics, order, table.groups[order], {"nearer": 0.5, "rank": 1.5}, nulls=known)]

    def won(self, own_n: Tensor, other_n: Tensor) -> Tensor:
        return own_n > other_n + TIE


class TiesAreRight(Plugin):
    def won(self, own_n: Tensor, other_n: Tensor) -> Tensor:
        return own_n >= other_n - TIE


class Generous(Plugin):
    def won(self, own_n: Tensor, other_n: Tensor) -> Tensor:
        return own_n > other_n - 0.3


class LowerThanChance(Plugin):
    """Which only a plugin that says what it knows finds."""

    def won(self, own_n: Tensor, other_n: Tensor) -> Tensor:
        return own_n > other_n + 0.3


class OfTheTable(Plugin):
    """The first item of the table is right."""

    def won(self, own_n: Tensor, other_n: Tensor) -> Tensor:
        return own_n.argsort() < 30


@pytest.mark.parametrize(
    ("kind", "nulls", "caught"),
    [
        (Plugin, False, set()),
        (Plugin, True, set()),
        (TiesAreRight, False, {"constant"}),
        (Generous, False, {"constant", "random"}),
        (LowerThanChance, False, set()),
        (LowerThanChance, True, {"random"}),
    ],
)
def test_a_kind_of_a_plugin_is_judged_by_the_rules_of_all_and_by_what_it_declares(
    kind: type[Plugin], nulls: bool, caught: set[str]
) -> None:
    task = kind(kind="plugin", name="own", title="Own", nulls=nulls)
    checks = self_test(TABLE, [task], QUICK)
    assert failing(checks) == caught
    assert {check.model for check in checks} == {"constant", "random", "reordered", *(["shuffled"] if nulls else [])}
    directions = {check.metric: check.bound for check in checks if check.model == "constant"}
    assert directions == {"nearer": "equal" if nulls else "at most", "rank": "at least"}


def test_what_only_the_whole_task_can_measure_is_judged_by_it() -> None:
    """Three samples of three classes: two folds would leave one class to learn from."""
    few = EmbeddingTable({"image": TABLE.vectors["image"][:3]}, {"image": torch.arange(3)}, TABLE.samples[:3])
    checks = self_test(few, [of_kind("linear_probe", C=[1.0])], QUICK)
    assert failing(checks) == set()
    assert {check.expected for check in checks if check.model == "informed"} == {0.0}


def test_a_task_that_measures_nothing_is_an_error_of_the_self_test_alone() -> None:
    silent = of_kind("few_shot", modalities=["audio"])
    with pytest.raises(EvalError, match="the tasks measure nothing on these data"):
        self_test(TABLE, [silent], QUICK)
    trust(TABLE, silent)


@pytest.mark.parametrize("k", [1, 2])
def test_the_best_answer_equals_a_search_over_all_answers(k: int) -> None:
    random = torch.Generator().manual_seed(k)
    label_n, part_n = torch.randint(0, 4, (40,), generator=random), torch.randint(0, 3, (40,), generator=random) * 7
    weight_n = torch.rand(40, generator=random)
    best = 0.0
    for part in (0, 7, 14):
        here = part_n == part
        best += max(
            float(weight_n[here][torch.isin(label_n[here], torch.tensor(answer))].double().sum())
            for answer in permutations(range(4), k)
        )
    assert best_answer(label_n, part_n, weight_n, k) == pytest.approx(best / float(weight_n.double().sum()))


METRICS = ("R@1", "R@70", "P@70", "mAP", "R-precision", "nDCG@100", "mean rank", "median rank", "MRR")


@pytest.mark.parametrize("metric", METRICS)
def test_equal_vectors_have_the_score_that_the_ranking_expects_of_them(metric: str) -> None:
    """By grades, and where most of the candidates count."""
    task = RetrievalTask(kind="retrieval", name="r", title="R", relevance="related", recall_at=(), further=(metric,))
    one = normalize(torch.ones(DIM), dim=0)
    equal = replace(TABLE, vectors={name: one.expand(len(rows), -1) for name, rows in TABLE.vectors.items()})
    for measure, known in zip(
        task.measure(equal, lambda texts: torch.zeros(0), EvalConfig()),
        task.measure(TABLE, lambda texts: torch.zeros(0), EvalConfig()),
        strict=True,
    ):
        assert measure.statistics[metric].value == pytest.approx(known.nulls.constant[metric])
