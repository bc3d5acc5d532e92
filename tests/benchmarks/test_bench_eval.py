"""The benchmark of evaluation: R@k equals that of CLIP_benchmark's rule, and its rows are those of the targets."""

import sys
from collections.abc import Sequence
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.benchmarks.eval import retrieval, run
from tercet.benchmarks.eval.retrieval import on_gpu, ours, pictures_and_texts, theirs
from tercet.benchmarks.table import BenchRow, judge
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval import products
from tests.eval.elsewhere import DEVICE, Elsewhere


def test_recalls_are_those_of_a_sorted_matrix() -> None:
    image, text = pictures_and_texts(40)
    found = ours(image, text)
    for name, scores in (("image", text @ image.T), ("text", image @ text.T)):
        places = [row.argsort(descending=True).tolist().index(own) for own, row in enumerate(scores)]
        for k in (1, 5, 10):
            assert found[f"{name} R@{k}"] == sum(place < k for place in places) / 40
    assert 0 < found["image R@1"] < 1


def test_clip_benchmark_has_the_same_recalls() -> None:
    pytest.importorskip("clip_benchmark")
    given = pictures_and_texts(150)
    assert theirs(*given) == pytest.approx(ours(*given), abs=1e-6)


def test_the_rows_are_those_of_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(rows: Sequence[BenchRow]) -> set[str]:
        return {row.name for row in rows if row.limit is not None and row.ours is not None}

    monkeypatch.setitem(retrieval.SIDES, "peer", ours)
    monkeypatch.setattr(retrieval, "peak", lambda who, items: items * (1 if who == "ours" else 20))
    rows = run(["--part", "retrieval", "--items", "30", "--large", "60", "--rounds", "1"])
    known = judge("eval", rows).rows
    assert measured(known) == {
        "retrieval R@k", "retrieval time", "retrieval memory", "retrieval memory of many items"
    }  # fmt: skip
    assert {row.name: row.ratio for row in rows if row.unit == "MiB"} == {
        "retrieval memory": 0.05, "retrieval memory of many items": 1.0
    }  # fmt: skip


def test_a_gpu_has_a_row_of_its_own_with_the_recalls_of_the_cpu() -> None:
    named = patch("torch.cuda.get_device_name", return_value="a GPU that is not there")
    with patch.object(products, "FEW", 0), named, Elsewhere() as elsewhere:
        (row,) = on_gpu(70, World(device=DEVICE))
    assert elsewhere.products > 0
    assert row.ours
    assert (row.sizes["device"], row.beyond["R@k apart from the CPU"]) == ("a GPU that is not there", 0)


def test_wrong_sizes_and_a_missing_peer_are_errors_that_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--items of 20 to --large"):
        run(["--items", "50", "--large", "40"])
    for name in ("clip_benchmark", "clip_benchmark.metrics", "clip_benchmark.metrics.zeroshot_retrieval"):
        monkeypatch.setitem(sys.modules, name, None)
    rows: tuple[Tensor, Tensor] = (torch.eye(3), torch.eye(3))
    with pytest.raises(UserError, match="pip install clip-benchmark"):
        theirs(*rows)
