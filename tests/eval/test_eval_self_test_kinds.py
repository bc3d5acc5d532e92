"""Every kind of task is judged by the self-test, also a kind of a plugin, and sound ones hold."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.probes.knn import NearestNeighboursTask
from tercet.eval.probes.linear_probe import LinearProbeTask
from tercet.eval.ranking.ranking import TIE
from tercet.eval.retrieval.retrieval import RetrievalTask
from tercet.eval.statistics.intervals import MeanRank, Share, Statistic
from tercet.eval.task import Task
from tercet.eval.trust.self_test import QUICK, self_test, trust
from tests.eval.judged import DIM, EVERY, TABLE, failing, of_kind, reduced_task


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


def test_a_reduced_set_is_judged_on_those_of_its_samples_that_are_there(tmp_path: Path) -> None:
    task = reduced_task(tmp_path)
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
