"""Both sides of the benchmark train the same on the same features, and its rows are those of the targets."""

import json
from pathlib import Path

import pytest
import torch

from tercet.benchmarks.cached.case import MODALITIES, CachedCase
from tercet.benchmarks.cached.stepping import OurSide, PlainLoop
from tercet.command import main


def test_both_sides_have_the_same_features_and_the_same_loss(tmp_path: Path) -> None:
    case = CachedCase(tmp_path, samples=300, width=8, batch=40)
    case.write()
    ours = OurSide(case)
    peer = PlainLoop(case, ours)
    batch = next(iter(case.loader()))
    rows = {modality: batch.fields[modality].values for modality in MODALITIES}
    for modality, values in peer.tensors.items():
        assert torch.equal(values[batch.ids], rows[modality])
    loss = peer.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    taken = ours._step(batch, 0)
    torch.testing.assert_close(taken.outcome.loss, loss.detach(), rtol=1e-5, atol=1e-5)
    assert taken.stepped.grad_norm == pytest.approx(
        float(torch.stack([one.grad.norm() for one in peer.parameters if one.grad is not None]).norm()), rel=1e-3
    )


def test_the_rows_are_those_of_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--samples", "500", "--width", "8", "--batch", "50", "--rounds", "1", "--steps", "1"]
    assert main(["bench", "cached", "--json", *sizes]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {name: (row["unit"], row["limit"]) for name, row in rows.items()} == {
        "loader alone": ("samples/s", 200_000), "step": ("s", 1.1)
    }  # fmt: skip
    assert main(["bench", "cached", "--batch", "1"]) == 2
    assert "--batch of 2 to --samples" in capsys.readouterr().err
