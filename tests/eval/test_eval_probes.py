"""Linear probes and nearest neighbours against scikit-learn and loops; groups and folds stay on their side."""

import sys
from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.classification.zero_shot import ZeroShotTask
from tercet.eval.compare import compare
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.load_tasks import load_task, load_tasks
from tercet.eval.measure import Measure
from tercet.eval.probes.knn import NearestNeighboursTask
from tercet.eval.probes.labelled import labelled, place_of_right
from tercet.eval.probes.linear_probe import LinearProbeTask, MultiLabelProbeTask
from tercet.eval.probes.probe import ProbeTask
from tercet.eval.probes.splits import dealt, splits
from tercet.eval.trust.null_models import reordered

DIM = 8


def linear(**options: object) -> LinearProbeTask:
    return LinearProbeTask.model_validate({"kind": "linear_probe", "name": "probe", "title": "Probe", **options})


def knn(**options: object) -> NearestNeighboursTask:
    return NearestNeighboursTask.model_validate({"kind": "knn", "name": "knn", "title": "k-NN", **options})


def made(items: int = 60, classes: int = 3, spread: float = 1.0, group: int = 1, seed: int = 0) -> EmbeddingTable:
    """Pictures around the centres of their classes, in three folds, three quarters of them for training."""
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(items) // group % classes
    centre = torch.randn(classes, DIM, generator=random, dtype=torch.float64)[label]
    rows = normalize(centre + spread * torch.randn(items, DIM, generator=random, dtype=torch.float64), dim=1)
    samples = tuple(
        Sample(f"s{n}", n, n // group, meta={
            "own": "yes", "label": f"c{int(label[n])}", "fold": n // group // 3 % 3,
            "split": "test" if n % 4 == 0 else "train",
        })
        for n in range(items)
    )  # fmt: skip
    return EmbeddingTable({"image": rows}, {"image": torch.arange(items)}, samples)


def measured(table: EmbeddingTable, task: ProbeTask) -> Measure:
    (found,) = task.measure(table, lambda texts: torch.zeros(len(texts), DIM), EvalConfig())
    return found


def accuracy(table: EmbeddingTable, task: ProbeTask) -> float:
    return measured(table, task).statistics["acc1"].value


def arrays(table: EmbeddingTable) -> tuple[Tensor, Tensor, Tensor]:
    """The vectors, the labels and which of the items are for training."""
    label = torch.tensor([int(str(one.meta["label"])[1:]) for one in table.samples])
    return table.vectors["image"], label, torch.tensor([one.meta["split"] == "train" for one in table.samples])


def test_a_linear_probe_equals_logistic_regression_and_chooses_its_strength_without_the_test_items() -> None:
    table = made(spread=1.5)
    rows, label, train = arrays(table)
    for strength in (0.1, 100.0):
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(rows[train], label[train])
        right = fitted.score(rows[~train], label[~train])
        assert accuracy(table, linear(train={"split": "train"}, C=[strength])) == pytest.approx(right)
    chosen = measured(table, linear(train={"split": "train"}))
    known = np.nonzero(train.numpy())[0]
    samples = [table.samples[place] for place in known]
    held = (dealt(samples, label[known], torch.arange(len(known)), 5) == 0).numpy()
    scores = {}
    for strength in linear().C:
        model = LogisticRegression(C=strength, max_iter=1000).fit(rows[known[~held]], label[known[~held]])
        scores[strength] = model.score(rows[known[held]], label[known[held]])
    best = max(scores, key=lambda strength: scores[strength])
    refitted = LogisticRegression(C=best, max_iter=1000).fit(rows[known], label[known])
    assert chosen.statistics["acc1"].value == pytest.approx(refitted.score(rows[~train], label[~train]))
    assert str(chosen.notes["chosen"]).startswith(f"['C = {best:g}")
    other = EmbeddingTable({"image": torch.where(train[:, None], rows, -rows)}, table.items, table.samples)
    assert measured(other, linear(train={"split": "train"})).notes["chosen"] == chosen.notes["chosen"]


def test_nearest_neighbours_equal_a_loop() -> None:
    table = made(spread=2.0)
    rows, label, train = arrays(table)
    known, hits = train.nonzero().flatten().tolist(), []
    for place in (~train).nonzero().flatten().tolist():
        near = sorted(known, key=lambda other: -float(rows[place] @ rows[other]))[:7]
        votes = [sum(exp(float(rows[place] @ rows[n]) / 0.2) for n in near if label[n] == one) for one in range(3)]
        hits.append(votes.index(max(votes)) == int(label[place]))
    task = knn(train={"split": "train"}, neighbours=7, temperature=0.2)
    assert accuracy(table, task) == pytest.approx(sum(hits) / len(hits))
    assert accuracy(table, task.model_copy(update={"neighbours": 1000})) > 0


@pytest.mark.parametrize("task", [linear(fold="fold", C=[1.0]), knn(fold="fold", neighbours=5)], ids=["linear", "knn"])
def test_folds_of_the_data_are_tested_once_each_and_count_alike(task: ProbeTask) -> None:
    table = made(items=66, spread=1.5)  # folds of 24, 21 and 21
    found = measured(table, task)
    assert sorted(found.items.tolist()) == list(range(66))
    assert found.notes["folds"] == 3
    fold = torch.tensor([table.samples[item].meta["fold"] for item in found.items.tolist()])
    hits = found.statistics["acc1"].values_Q.double()
    assert found.statistics["acc1"].value == pytest.approx(float(np.mean([hits[fold == n].mean() for n in range(3)])))
    single = [
        EmbeddingTable(table.vectors, table.items, tuple(
            Sample(s.key, s.id, s.group, meta={**s.meta, "split": "test" if s.meta["fold"] == n else "train"})
            for s in table.samples
        )) for n in range(3)
    ]  # fmt: skip
    alone = [accuracy(one, task.model_copy(update={"fold": None, "train": {"split": "train"}})) for one in single]
    assert found.statistics["acc1"].value == pytest.approx(float(np.mean(alone)))


@settings(max_examples=40, deadline=None)
@given(some.lists(some.integers(0, 6), min_size=12, max_size=40), some.integers(2, 4))
def test_groups_are_never_divided_and_folds_are_balanced(groups: list[int], folds: int) -> None:
    samples = [Sample(str(n), n, group) for n, group in enumerate(groups)]
    group_n = torch.tensor(groups)
    fold_n = dealt(samples, group_n % 2, group_n, folds)
    of_group = {group: {int(fold) for fold in fold_n[group_n == group]} for group in set(groups)}
    assert all(len(found) == 1 for found in of_group.values())
    sizes = torch.tensor([found.pop() for found in of_group.values()]).bincount(minlength=folds)
    assert int(sizes.max() - sizes.min()) <= 1


def test_training_samples_that_share_a_group_with_tested_ones_are_left_out() -> None:
    table = made(group=2)  # pairs, of which some have one sample on each side of `split`
    task = linear(train={"split": "train"}, C=[1.0])
    data = labelled(table, "image", task)
    (split,) = splits(data, task)
    groups = data.groups_n
    assert not set(groups[split.train_n].tolist()) & set(groups[split.test_n].tolist())
    assert split.left_out == 60 - len(split.train_n) - len(split.test_n) > 0
    assert measured(table, task).notes["training samples left out for their group"] == split.left_out
    for one in splits(data, linear(folds=4)):
        assert not set(groups[one.train_n].tolist()) & set(groups[one.test_n].tolist())


@pytest.mark.parametrize("task", [linear(folds=3, C=[1.0]), knn(folds=3)], ids=["linear", "knn"])
def test_order_constants_and_absent_classes(task: ProbeTask) -> None:
    table = made(items=36, spread=1.0)
    assert accuracy(reordered(table, 1), task) == pytest.approx(accuracy(table, task))
    far = made(items=36, spread=0.01)
    assert accuracy(far, task) == pytest.approx(1)
    constant = EmbeddingTable({"image": torch.ones(36, DIM) / DIM**0.5}, table.items, table.samples)
    assert accuracy(constant, task) <= 0.34  # all items get the same class, or all classes tie
    rare = tuple(
        Sample(s.key, s.id, s.group, meta={**s.meta, "label": "alone"}) if s.id == 5 else s for s in far.samples
    )
    found = measured(EmbeddingTable(far.vectors, far.items, rare), task)
    missed = found.items[found.statistics["acc1"].values_Q == 0].tolist()
    assert missed == [5]
    assert found.chance["acc1"] == 1 / 4
    (apart,) = [one for one in compare([measured(table, task)], [measured(far, task)]) if one.metric == "acc1"]
    assert apart.apart.value == pytest.approx(1 - accuracy(table, task))


def test_a_tie_is_wrong_and_an_absent_class_is_last() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, -torch.inf]])
    assert place_of_right(scores, torch.tensor([0, 0, 2])).tolist() == [2, 1, 3]


def test_two_classes_and_top_five_of_six() -> None:
    assert accuracy(made(classes=2, spread=0.1), linear(folds=2, C=[1.0])) == pytest.approx(1)
    assert set(measured(made(classes=6), knn()).statistics) == {"acc1", "mean_per_class_recall", "acc5"}


def test_what_is_missing_is_named() -> None:
    table = made()
    with pytest.raises(EvalError, match="needs `take` in the meta of sample `s0`; name another key in `fold`"):
        measured(table, linear(fold="take"))
    with pytest.raises(EvalError, match="needs `part: train` in the meta of its training samples"):
        measured(table, linear(train={"part": "train"}))
    with pytest.raises(EvalError, match="tests the test split, which has no `split: other`, and has 0 samples"):
        measured(table, linear(train={"split": "other"}))
    with pytest.raises(EvalError, match="has no labelled sample; check `train`"):
        measured(table, linear(train={"own": "yes"}))
    with pytest.raises(EvalError, match="of fewer than two classes"):
        measured(made(classes=1), linear())
    with pytest.raises(EvalError, match="no sample with image has `colour` in its meta, the class in task `probe`"):
        measured(table, linear(label="colour"))
    with pytest.raises(EvalError, match="too few training samples to choose `C`"):
        measured(made(items=4, classes=2), linear(folds=2))
    with pytest.raises(ValueError, match="only one of them can split the data"):
        linear(train={"split": "train"}, fold="fold")


def several(items: int = 80) -> EmbeddingTable:
    """Pictures with any of three labels, each of which moves them along an axis of its own; every ninth has no key."""
    random = torch.Generator().manual_seed(4)
    right = torch.rand(items, 3, generator=random) < 0.4
    rows = torch.randn(items, DIM, generator=random, dtype=torch.float64)
    rows[:, :3] += 1.5 * right
    meta = [[f"l{k}" for k in range(3) if found[k]] for found in right.tolist()]
    samples = tuple(
        Sample(f"s{n}", n, n, meta={"fold": n % 2} | ({} if n % 9 == 8 else {"labels": meta[n]})) for n in range(items)
    )
    return EmbeddingTable({"image": normalize(rows, dim=1)}, {"image": torch.arange(items)}, samples)


def many(**options: object) -> MultiLabelProbeTask:
    keys = {"kind": "multi_label_probe", "name": "many", "title": "Many", "fold": "fold", **options}
    return MultiLabelProbeTask.model_validate(keys)


def test_a_probe_of_several_labels_equals_a_regression_for_each_and_their_average_precision() -> None:
    table = several()
    kept = [n for n in range(80) if n % 9 != 8]
    labels = [table.samples[n].meta["labels"] for n in kept]
    right = np.array([[f"l{k}" in found for k in range(3)] for found in labels])  # type: ignore[operator]
    rows, fold, expected = table.vectors["image"].numpy()[kept], np.array(kept) % 2, []
    for test in (fold == 0, fold == 1):
        for k in range(3):
            fitted = LogisticRegression(C=2.0, max_iter=1000).fit(rows[~test], right[~test, k])
            expected.append(average_precision_score(right[test, k], fitted.decision_function(rows[test])))
    found = measured(table, many(C=[2.0]))
    assert found.statistics["mAP"].value == pytest.approx(np.mean(expected))
    assert sorted(found.items.tolist()) == kept
    low, high = found.statistics["mAP"].estimate(found.groups)[1:]
    assert found.chance["mAP"] < low < found.statistics["mAP"].value < high
    assert measured(table, many()).notes["folds"] == 2


def test_other_data_may_lack_some_of_the_labels() -> None:
    table, one = several(), many(fold=None, learn_from="other", C=[2.0])
    fewer = tuple(
        Sample(s.key, s.id, s.group, meta={"labels": [x for x in ("l0", "l2") if x in s.meta.get("labels", ())]})  # type: ignore[operator]
        for s in table.samples
    )
    other = EmbeddingTable(table.vectors, table.items, fewer)
    tested = EmbeddingTable(table.vectors, table.items, table.samples, again=lambda source, towers: other)
    found = measured(tested, one)
    assert (found.notes["learned from"], len(found.items), found.notes["classes"]) == (80, 72, 3)
    alone = EmbeddingTable(table.vectors, table.items, table.samples, again=lambda source, towers: table)
    assert measured(alone, one).statistics["mAP"].value > found.statistics["mAP"].value + 0.1  # `l1` was not learned
    with pytest.raises(EvalError, match="needs the model itself, for `vectors` or `learn_from`"):
        measured(table, one)


def test_constant_vectors_rank_right_items_last_and_labels_may_be_missing() -> None:
    table = several()
    constant = EmbeddingTable({"image": torch.ones(80, DIM) / DIM**0.5}, table.items, table.samples)
    found = measured(constant, many(C=[1.0]))
    assert found.statistics["mAP"].value < found.chance["mAP"]
    with pytest.raises(EvalError, match="task `many` needs two labels or more in `tags` of the meta of samples"):
        measured(table, many(label="tags"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(UserError, match=r"linear probes need scikit-learn; pip install 'tercet\[probe\]'"):
        measured(made(), linear())


def test_the_task_of_esc50_has_its_classes_and_folds() -> None:
    shot, probe = load_tasks(["esc50"])
    assert isinstance(shot, ZeroShotTask)
    assert isinstance(probe, LinearProbeTask)
    assert len(shot.classes) == len(set(shot.classes.values())) == 50
    assert (probe.fold, probe.label, shot.label) == ("fold", "category", "category")
    assert isinstance(load_task("knn"), NearestNeighboursTask)
    assert isinstance(load_task("linear_probe"), LinearProbeTask)
