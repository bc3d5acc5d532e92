"""iSogCLR over three steps equals loops over anchors and keys, with plain dictionaries as its tables, in fp64."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_term
from tercet.models.losses.problem import Update
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Known, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import check_objective, on_ranks

SIDES = ("image", "text")
Values = dict[str, dict[int, float]]  # by column and sample


@dataclass
class Naive:
    """The values of all samples of both fields, and how a step changes them."""

    tau: float = 0.01
    temperatures: tuple[float, float] = (0.005, 1.0)
    rho: float = 6.0
    gamma: float = 0.8
    eta: float = 0.03
    momentum: float = 0.1
    kept: dict[str, Values] = field(default_factory=lambda: {side: defaultdict(dict) for side in SIDES})

    def step(self, ids: list[int], groups: list[int], cosines: Tensor) -> Tensor:
        """The loss of a batch. Afterwards, its samples have new values."""
        total = cosines.new_zeros(())
        for side, matrix in zip(SIDES, (cosines, cosines.T), strict=True):
            new: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
            for i, id in enumerate(ids):
                rivals = [j for j in range(len(ids)) if j != i and groups[j] != groups[i]]
                if not rivals:
                    continue
                old = {name: values.get(id) for name, values in self.kept[side].items()}
                h = [matrix[i, j] - matrix[i, i] for j in rivals]
                tau = self.tau if old.get("temperature") is None else old["temperature"]
                raised = [math.exp(float(one.detach()) / tau) for one in h]
                u = sum(raised) / len(raised)
                if old.get("log_u") is not None:
                    u = (1 - self.gamma) * math.exp(old["log_u"]) + self.gamma * u
                weighted = [one / u * gap / len(h) for one, gap in zip(raised, h, strict=True)]
                drawn = torch.stack(weighted).sum()
                total = total + drawn / len(ids)
                slope = min(max(math.log(u) + self.rho - float(drawn.detach()) / tau, -5.0), 5.0)
                slope = self.momentum * (old.get("slope") or 0.0) + (1 - self.momentum) * slope
                low, high = self.temperatures
                new["temperature"][id].append(min(max(tau - self.eta * slope, low), high))
                new["log_u"][id].append(math.log(u))
                new["slope"][id].append(slope)
            for name, found in new.items():
                self.kept[side][name] |= {id: sum(values) / len(values) for id, values in found.items()}
        return total


FIRST = {"temperature": 0.2, "log_u": -math.inf, "slope": 0.0}
OPTIONS: dict[str, Any] = {"tau": 0.2, "rho": 0.8, "temperatures": [0.1, 0.25], "gamma": 0.6, "momentum": 0.3}
NAIVE: dict[str, Any] = {**OPTIONS, "temperatures": (0.1, 0.25)}
BATCHES = ([0, 1, 2, 3, 4, 5], [4, 1, 0, 4, 6, 7], [5, 0, 7, 1, 4, 2])  # the second has sample 4 twice


class Dictionary:
    """The memory of the term, as a plain dictionary on every rank."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], float] = {}

    def read(self, term: str, id_N: Tensor) -> dict[str, Tensor]:
        names = [(side, column) for side in SIDES for column in FIRST]
        return {
            f"{side}.{column}": torch.tensor(
                [self.values.get((f"{side}.{column}", id), FIRST[column]) for id in id_N.tolist()], dtype=torch.float64
            )
            for side, column in names
        }

    def write(self, updates: list[Update]) -> None:
        found = defaultdict(list)
        for update in updates:
            for name, value_N in update.values.items():
                for id, value in zip(update.id_N.tolist(), value_N.tolist(), strict=True):
                    found[name, id].append(value)
        self.values |= {key: sum(values) / len(values) for key, values in found.items()}


def three_steps(world: World, tile: int) -> list[tuple[float, dict[str, Tensor]]]:
    """The loss of each step and the gradients of this rank's rows."""
    term = TermConfig(between=SIDES, objective=ObjectiveConfig.model_validate({"name": "isogclr", **OPTIONS}))
    terms, memory, found = Terms([term], tile), Dictionary(), []
    scale = torch.ones(1, dtype=torch.float64)
    for number, ids in enumerate(BATCHES):
        own = list(world.share(range(len(ids))))
        item = torch.arange(len(own))
        fields = {side: Field(side, torch.zeros(len(own)), item) for side in SIDES}
        batch = Batch(torch.tensor(ids)[own], groups_of(ids)[own], fields)
        vectors = {side: z[own] for side, z in vectors_of(number).items()}
        outcome = terms(batch, vectors, {"image-text": (scale, None)}, world, Known(lookup=memory.read))
        memory.write(outcome.updates["image-text"])
        found.append((float(outcome.loss), outcome.rows))
    return found


def groups_of(ids: list[int]) -> Tensor:
    """Samples 0 and 1 are of one group."""
    return torch.tensor([max(id, 1) for id in ids])


def vectors_of(number: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(number)
    x, y = normalize(torch.randn(2, 6, 5, generator=random, dtype=torch.float64), dim=2)
    return {"image": x, "text": normalize(x + y, dim=1)}


@pytest.mark.parametrize("tile", [2, 100])
def test_three_steps_equal_loops(tile: int) -> None:
    naive, two = Naive(**NAIVE), on_ranks(three_steps, 2, tile)
    for number, (ids, (found, rows)) in enumerate(zip(BATCHES, three_steps(World(), tile), strict=True)):
        leaves = {side: z.requires_grad_() for side, z in vectors_of(number).items()}
        expected = naive.step(ids, groups_of(ids).tolist(), leaves["image"] @ leaves["text"].T)
        assert found == pytest.approx(float(expected.detach()), rel=1e-9)
        assert [rank[number][0] for rank in two] == pytest.approx([found, found], rel=1e-9)
        for side, slope in zip(SIDES, torch.autograd.grad(expected, list(leaves.values())), strict=True):
            torch.testing.assert_close(rows[side], slope, rtol=1e-9, atol=1e-12)
            joined = torch.cat([rank[number][1][side] for rank in two])
            torch.testing.assert_close(joined, slope, rtol=1e-9, atol=1e-12)
    temperatures = naive.kept["image"]["temperature"].values()
    assert len(set(temperatures)) > 5
    assert min(temperatures) < OPTIONS["tau"] < max(temperatures), "no temperature rose, or none fell"


def test_it_is_an_objective_of_the_kernel() -> None:
    """Anchors without negatives and extreme logits too."""
    check_objective("isogclr", tau=0.01, temperatures=[0.005, 1.0])
    check_objective("isogclr", gamma=1.0, tau=0.1)


def test_a_scale_of_its_own_is_refused() -> None:
    for options, message in (
        ({"scale": 10.0, "bounds": [1.0, 100.0]}, r"terms.image-text.objective: `isogclr` learns a temperature for"),
        ({"tau": 0.001}, r"terms.image-text.objective.tau 0.001 is not within temperatures \[0.005, 1\]; change one"),
    ):
        config = ObjectiveConfig.model_validate({"name": "isogclr", **options})
        with pytest.raises(UserError, match=message):
            build_term(TermConfig(between=SIDES, objective=config))


def test_a_loop_of_ones_own_cannot_use_it() -> None:
    with pytest.raises(UserError, match="the loss `isogclr` keeps values of samples from step to step; train it with"):
        loss("isogclr")
