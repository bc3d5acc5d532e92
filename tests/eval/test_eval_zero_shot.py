"""Zero-shot against scikit-learn and torchmetrics: top-k, balanced accuracy, calibration, several labels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    label_ranking_average_precision_score,
    log_loss,
    top_k_accuracy_score,
)
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error, multilabel_average_precision

from tercet.data_pipelines.sample import Sample
from tercet.eval.classification.calibration import CalibrationTask, calibration_error
from tercet.eval.classification.classified import class_vectors
from tercet.eval.classification.mean_precision import average_precision
from tercet.eval.classification.multi_label import MultiLabelTask
from tercet.eval.classification.prompted_task import PromptedTask, prompts_of
from tercet.eval.classification.zero_shot import ZeroShotTask
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.load_tasks import load_task
from tercet.eval.measure import Measure, results
from tercet.eval.result import Result, to_json
from tercet.eval.tables.table import table_text
from tercet.eval.trust.null_models import constant, constant_text, random_text
from tercet.eval.trust.self_test import THOROUGH, self_test
from tests.eval.stored import tiny

ITEMS, DIM, SCALE = 120, 16, 7.0
NAMES = tuple(f"class {letter}" for letter in "abcdefghijkl")
SPEC: dict[str, Any] = {
    "name": "letters", "title": "Letters", "what": "letter", "classes": {name: name for name in NAMES},
    "templates": ("a {class}", "one {class}"),
}  # fmt: skip
TOP = ZeroShotTask(kind="zero_shot", top=(1, 5, 10, 12), **SPEC)
CALIBRATED = CalibrationTask(kind="calibration", **SPEC)
SEVERAL = MultiLabelTask(kind="multi_label", **SPEC)
embed_text = random_text(DIM, seed=5)


def table() -> EmbeddingTable:
    """Items near their first label; classes are unequally frequent, and the last has no item."""
    random = np.random.default_rng(0)
    labels = [sorted({int(random.integers(11) * random.random()), int(random.integers(11))}) for _ in range(ITEMS)]
    labels[7] = []
    samples = tuple(
        Sample(str(n), n, n, meta={"label": NAMES[own[0]] if own else NAMES[0], "labels": [NAMES[one] for one in own]})
        for n, own in enumerate(labels)
    )
    centres = class_vectors(embed_text, TOP)[[own[0] if own else 0 for own in labels]]
    noise = torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(1))
    image = F.normalize(centres + 0.35 * noise, dim=1)
    return EmbeddingTable({"image": image}, {"image": torch.arange(ITEMS)}, samples, scales={"image": SCALE})


@pytest.fixture(scope="module")
def known() -> tuple[EmbeddingTable, Tensor, Tensor, Tensor]:
    """The table, the scores of items and classes, the label of each item, and all labels as a mask."""
    data = table()
    scores = data.vectors["image"].double() @ class_vectors(embed_text, TOP).double().T
    label = torch.tensor([NAMES.index(str(sample.meta["label"])) for sample in data.samples])
    several = torch.zeros(ITEMS, len(NAMES), dtype=torch.long)
    for row, sample in enumerate(data.samples):
        for name in sample.meta["labels"]:  # type: ignore[attr-defined]
            several[row, NAMES.index(name)] = 1
    return data, scores, label, several


def by_metric(measures: list[Measure]) -> dict[str, Result]:
    return {result.metric: result for result in results(measures)}


def measured(task: PromptedTask, data: EmbeddingTable) -> dict[str, Result]:
    return by_metric(task.measure(data, embed_text, EvalConfig()))


def test_top_k_and_balanced_accuracy_equal_those_of_scikit_learn(known: Any) -> None:
    data, scores, label, _ = known
    found = measured(TOP, data)
    assert list(found) == ["acc1", "mean_per_class_recall", "acc5", "acc10"]  # every item is among the first 12 of 12
    for k in (1, 5, 10):
        expected = top_k_accuracy_score(label, scores, k=k, labels=range(len(NAMES)))
        assert found[f"acc{k}"].value == pytest.approx(expected)
        assert found[f"acc{k}"].chance == pytest.approx(k / 12)
    guess = scores.argmax(dim=1)
    recall = found["mean_per_class_recall"]
    assert recall.value == pytest.approx(balanced_accuracy_score(label, guess))
    assert recall.metadata["majority"] == int(label.bincount().max()) / len(label)
    own = {NAMES[c]: float((guess == c)[label == c].double().mean()) for c in label.unique().tolist()}
    (exported,) = to_json(found.values(), "model")
    details: Any = exported["details"]
    assert details["letter from image mean_per_class_recall"]["by class"] == pytest.approx(own)
    assert "by class" not in details["letter from image acc1"]
    assert details["letter from image acc1"]["constant"] == 0
    assert "top-10" in table_text(found.values(), width=160)


def test_calibration_equals_that_of_torchmetrics_and_scikit_learn(known: Any) -> None:
    data, scores, label, _ = known
    for task, scale in ((CALIBRATED, SCALE), (CALIBRATED.model_copy(update={"scale": 30.0, "bins": 9}), 30.0)):
        found = measured(task, data)
        said = (scale * scores).softmax(dim=1)
        error = multiclass_calibration_error(said, label, num_classes=len(NAMES), n_bins=task.bins, norm="l1")
        assert found["calibration error"].value == pytest.approx(float(error), abs=1e-6)
        assert found["log loss"].value == pytest.approx(log_loss(label, said, labels=range(len(NAMES))), abs=1e-6)
        truth = F.one_hot(label, len(NAMES))
        binary = [brier_score_loss(truth[:, c], said[:, c], labels=[0, 1]) for c in range(len(NAMES))]
        assert found["Brier score"].value == pytest.approx(sum(binary), abs=1e-6)
        assert found["log loss"].metadata["logits"] == f"cosine × {scale:.4g}"
    assert found["calibration error"].chance is None
    assert found["log loss"].chance == pytest.approx(np.log(12))
    assert all(one.low <= one.value <= one.high for one in found.values())  # type: ignore[operator]
    with pytest.raises(EvalError, match="no temperature of image and text; set `scale`, such as 100"):
        measured(CALIBRATED, replace(data, scales={}))


def test_several_labels_equal_those_of_scikit_learn_and_torchmetrics(known: Any) -> None:
    data, scores, _, several = known
    found = measured(SEVERAL, data)
    there = several.any(dim=0)
    each = average_precision_score(several[:, there], scores[:, there], average=None)
    assert found["mAP"].value == pytest.approx(float(each.mean()))
    assert found["mAP"].value == pytest.approx(
        float(multilabel_average_precision(scores[:, there], several[:, there], num_labels=int(there.sum())))
    )
    names = [NAMES[c] for c in there.nonzero().flatten().tolist()]
    assert found["mAP"].metadata["by class"] == pytest.approx(dict(zip(names, each.tolist(), strict=True)))
    labelled = several.any(dim=1)
    ranked = label_ranking_average_precision_score(several[labelled], scores[labelled])
    assert found["LRAP"].value == pytest.approx(ranked)
    assert (int(there.sum()), int(labelled.sum()), found["mAP"].n) == (11, ITEMS - 1, ITEMS)


def test_labels_may_be_a_text_with_commas_and_unknown_ones_are_an_error(known: Any) -> None:
    data = known[0]
    written = tuple(
        replace(one, meta={"labels": ", ".join(one.meta["labels"])})  # type: ignore[arg-type]
        for one in data.samples
    )
    assert measured(SEVERAL, replace(data, samples=written)) == measured(SEVERAL, data)
    odd = (replace(data.samples[0], meta={"labels": ["clas a"]}), *data.samples[1:])
    with pytest.raises(EvalError, match="has the label `clas a`, and task `letters` does not; did you mean `class a`"):
        measured(SEVERAL, replace(data, samples=odd))
    upper = SEVERAL.model_copy(update={"classes": {**SEVERAL.classes, "Class A": "another"}})
    found = measured(upper, data)["mAP"].metadata["by class"]
    assert {name for name in found if name.lower() == "class a"} == {"class a"}  # type: ignore[attr-defined]
    bare = tuple(replace(one, meta={}) for one in data.samples)
    with pytest.raises(EvalError, match="no sample of the data has labels of task `letters` in `labels`"):
        measured(SEVERAL, replace(data, samples=bare))


def test_constant_features_score_the_worst_and_null_models_what_they_must(known: Any) -> None:
    data = known[0]
    worst: dict[str, Result] = {}
    for task in (TOP, CALIBRATED, SEVERAL):
        worst |= by_metric(task.measure(constant(data, 0), constant_text, EvalConfig()))
    assert {worst[name].value for name in ("acc1", "mean_per_class_recall", "acc5", "acc10")} == {0.0}
    assert worst["calibration error"].value == pytest.approx(1 / 12)
    assert worst["log loss"].value == pytest.approx(np.log(12))
    assert worst["mAP"].value == pytest.approx(worst["mAP"].metadata["constant"])
    assert worst["mAP"].value < worst["mAP"].chance  # type: ignore[operator]
    assert worst["LRAP"].value < worst["LRAP"].chance  # type: ignore[operator]
    named = [task.model_copy(update={"name": task.kind}) for task in (TOP, CALIBRATED, SEVERAL)]
    checks = self_test(data, named, replace(THOROUGH, draws=(16, 30)))
    assert [check for check in checks if not check.holds] == []
    assert {check.metric for check in checks if check.model == "random"} == {
        "acc1", "acc5", "acc10", "mean_per_class_recall", "Brier score", "log loss", "mAP", "LRAP",
    }  # fmt: skip


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_the_average_precision_puts_wrong_candidates_before_equal_right_ones(cases: list[tuple[int, bool]]) -> None:
    order = sorted(cases, key=lambda case: (-case[0], case[1]))  # wrong ones first among equals
    hits = [place for place, (_, right) in enumerate(order, start=1) if right]
    expected = np.mean([nth / place for nth, place in enumerate(hits, start=1)]) if hits else float("nan")
    scores, right = torch.tensor([float(score) for score, _ in cases]), torch.tensor([right for _, right in cases])
    assert float(average_precision(scores, right)) == pytest.approx(float(expected), nan_ok=True)


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20), st.integers(1, 15))
def test_the_calibration_error_equals_a_loop_over_bins(cases: list[tuple[float, bool]], bins: int) -> None:
    expected = 0.0
    for at in range(bins):
        inside = [(said, right) for said, right in cases if min(int(said * bins), bins - 1) == at]
        if inside:
            said, right = (np.mean(column) for column in zip(*inside, strict=True))
            expected += abs(right - said) * len(inside) / len(cases)
    said_n = torch.tensor([said for said, _ in cases], dtype=torch.float64)
    right_n = torch.tensor([float(right) for _, right in cases], dtype=torch.float64)
    assert calibration_error(said_n, right_n, bins) == pytest.approx(expected, abs=1e-9)


def test_vectors_that_are_not_finite_are_an_error(known: Any) -> None:
    data = known[0]
    with pytest.raises(EvalError, match="is not finite"):
        replace(data, vectors={"image": data.vectors["image"].index_fill(0, torch.tensor([3]), float("nan"))})
    with pytest.raises(EvalError, match="text embedding of `a class a` is not finite"):
        TOP.measure(data, lambda texts: torch.full((len(texts), DIM), float("nan")), EvalConfig())


def test_a_model_tells_the_temperature_of_each_modality_and_text() -> None:
    model = tiny()
    with torch.no_grad():
        model.head.temperature_of("image-text").log_scale.fill_(3.0)
    assert model.scales == {
        "image": pytest.approx(np.exp(3.0), rel=1e-6),
        "audio": pytest.approx(float(model.head.temperature("audio-text")[0].detach())),
    }


def test_the_named_classes_of_cifar_are_complete() -> None:
    for name, count in (("cifar10", 10), ("cifar100", 100)):
        task = load_task(name)
        assert isinstance(task, ZeroShotTask)
        assert len(task.classes) == count
        assert list(task.classes) == sorted(task.classes)  # the order of the published numbers


def test_cifar_has_the_prompts_of_clip() -> None:
    looks = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
    expected = {f"a {look}photo of {article} airplane." for look in looks for article in ("a", "the")}
    expected |= {f"a photo of {article} {size} airplane." for size in ("small", "big") for article in ("a", "the")}
    for name in ("cifar10", "cifar100"):
        task = load_task(name)
        assert isinstance(task, ZeroShotTask)
        found = prompts_of(task, "airplane")
        assert (len(found), set(found)) == (18, expected)
