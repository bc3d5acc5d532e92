"""Zero-shot with labels of one's own: whose class is known, from where, and what is left out and counted."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.classification.labels import LabelReader
from tercet.eval.classification.zero_shot import label_tasks
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.evaluate import evaluate
from tercet.eval.load_tasks import load_task

LABELS = ("boat", "fire_truck", "bus")


@pytest.mark.parametrize(
    ("caption", "meta", "label"),
    [
        ("a red boat at night", {}, "boat"),
        ("Two Boats in the bay", {}, "boat"),
        ("buses", {}, "bus"),
        ("a fire truck, parked", {}, "fire_truck"),
        ("a busy street", {}, None),  # no whole word
        ("a boat on a bus", {}, None),  # which of them?
        ("a boat", {"label": "bus"}, "bus"),  # a column is believed
        ("a boat", {"class": "val/Fire-Truck"}, "fire_truck"),
        ("a boat", {"label": 2}, "bus"),
        ("a boat", {"label": "train"}, None),
        ("a boat", {"label": None}, "boat"),
    ],
)
def test_a_label_comes_from_a_column_a_folder_or_the_caption(
    caption: str, meta: dict[str, object], label: str | None
) -> None:
    assert LabelReader(LABELS)(Sample("k", 0, 0, text=(caption,), meta=meta)) == label


@pytest.mark.parametrize(
    ("labels", "named", "label"),
    [
        (("A", "a"), "A", "A"),
        (("A", "a"), "a", "a"),
        (("north/east", "south/east"), "north/east", "north/east"),
        (("north/east", "south/east"), "east", None),  # which of them?
        (("1", "2", "3"), "1", "1"),
        (("1", "2", "3"), "0", None),  # not the first of the list
    ],
)
def test_labels_that_are_alike_are_told_apart_by_their_spelling(
    labels: tuple[str, ...], named: str, label: str | None
) -> None:
    assert LabelReader(labels)(Sample("k", 0, 0, meta={"label": named})) == label


def embed_text(texts: list[str]) -> Tensor:
    """The prompt's own class, whatever else it says."""
    assert all("photo of a" in text for text in texts)
    return torch.eye(3)[[next(n for n, word in enumerate(("boat", "fire truck", "bus")) if word in t) for t in texts]]


def table(captions: list[str]) -> EmbeddingTable:
    """The picture of item i points to class i modulo three."""
    items = torch.arange(len(captions))
    samples = tuple(Sample(str(n), n, n, text=(caption,)) for n, caption in enumerate(captions))
    return EmbeddingTable({"image": F.one_hot(items % 3, 3).float()}, {"image": items}, samples)


def test_samples_without_a_label_are_left_out_and_counted() -> None:
    captions = ["a boat", "a fire truck", "a boat", "a field", "a fire truck", "a bus", "nothing"]
    tasks = label_tasks(LABELS)[:1]
    found = {one.metric: one for one in evaluate(table(captions), embed_text, tasks, EvalConfig())}
    assert found["acc1"].value == pytest.approx(4 / 5)  # all but the third, which points to a bus
    assert found["mean_per_class_recall"].value == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found["acc1"].n == 5
    assert found["acc1"].chance == pytest.approx(1 / 3)
    assert found["acc1"].metadata["items without a class"] == 2


def test_the_task_file_on_the_page_equals_the_option_labels(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    name, text = re.findall(r"```yaml\n# (\S+)\n(.*?)```", page, re.DOTALL)[0]
    (tmp_path / name).write_text(text, encoding="utf-8")
    (asked,) = label_tasks(
        {"boat": "a sailing boat", "car": "a car"}, ["a photo of {class}.", "a drawing of {class}."]
    )[:1]
    changes = {"name": "boats", "title": "Boats and cars", "modalities": ()}
    assert load_task(str(tmp_path / name)) == asked.model_copy(update=changes)


def test_labels_that_match_no_sample_are_an_error() -> None:
    with pytest.raises(
        EvalError, match="no item of the data fits task `zero_shot`, which needs a `label`, a `class` or a caption"
    ):
        evaluate(table(["a field"]), embed_text, label_tasks(LABELS)[:1], EvalConfig())
