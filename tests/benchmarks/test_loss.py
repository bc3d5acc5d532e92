"""The benchmark of the loss: both sides compute the same, and each objective gets its rows."""

import pytest
import torch

from tercet.benchmarks.loss import run
from tercet.benchmarks.loss.objectives import items_for, ours, rows_of, theirs
from tercet.benchmarks.table import judge
from tercet.errors import UserError
from tercet.models.losses.problem import Solution

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["infonce", "sigmoid"])
def test_the_peer_has_the_gradients_of_tercet(name: str) -> None:
    found, peer = ours(name, 96, CPU)(), theirs(name, 96, CPU)()
    assert isinstance(found, Solution)
    assert isinstance(peer, tuple)
    mine = [*found.rows.values(), found.scale.reshape(1), found.bias.reshape(1)]
    assert len(peer) == (3 if name == "infonce" else 4)
    for one, other in zip(mine, peer, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_an_objective_with_the_whole_matrix_is_measured_at_few_items_without_a_target() -> None:
    assert max(items_for("segment_attention")) == 512
    assert items_for("symile") == items_for("infonce_guide") == (2048, 4096, 8192)
    rows = rows_of("segment_attention", (96,), CPU)
    assert [row.name for row in rows] == [f"{kind} of segment_attention at N = 96" for kind in ("time", "memory")]


@pytest.mark.parametrize(("name", "peer"), [("infonce", "open_clip ClipLoss"), ("soft", None)])
def test_each_objective_has_its_time_and_memory_at_each_size(name: str, peer: str | None) -> None:
    rows = rows_of(name, (512, 1024), CPU)
    kinds = ("time", "memory", "memory per item")
    assert [row.name for row in rows] == [f"{kind} of {name} at N = {size}" for size in (512, 1024) for kind in kinds]
    assert [row.peer_name for row in rows[:2]] == [peer or "infonce of tercet", peer]
    assert all(row.ours is not None and row.ours > 0 for row in rows)
    assert rows[2].ratio == 1.0
    judged = judge("loss", rows, ["--objective", name]).rows
    assert [row.limit for row in judged] == [None, None, 1.2] * 2


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(UserError, match="unknown objective `symille`; did you mean `symile`"):
        run(["--objective", "symille"])
