"""Gradients in fp32 where the rows of a field differ little from each other, against autograd through naive losses in
fp64. An untrained tower, or one that collapses, gives such rows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.benchmarks.gradients.naive_terms import NAIVE
from tercet.distributed import World
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.kernel import Pair, contrast
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.testing.examples import Beside, build_example, example_of

ITEMS, DIM, SPREAD = 24, 256, 0.01  # the distance of rows from their mean
SCALE = 100.0


def problem(name: str, dtype: torch.dtype) -> Problem:
    """The values are those of fp32 in either type."""
    random = torch.Generator().manual_seed(0)

    def rows() -> Rows:
        mean_d, noise_Nd = torch.randn(DIM, generator=random), torch.randn(ITEMS, DIM, generator=random)
        return Rows.numbered(normalize(normalize(mean_d, dim=0) + SPREAD * normalize(noise_Nd, dim=1), dim=1).to(dtype))

    example, objective = example_of(name), build_example(name)
    beside = Beside(objective, example, ITEMS)
    fields = {field: rows() for field in example.between}
    found = beside.problem(fields, torch.tensor([SCALE], dtype=torch.float64).to(dtype), None, 7, World())
    return replace(found, fields={field: rounded(one) for field, one in found.fields.items()})


def rounded(rows: Rows) -> Rows:
    return replace(rows, extra={key: value.float().to(rows.z_Nd) for key, value in rows.extra.items()})


def exact(name: str) -> dict[str, Tensor]:
    whole = problem(name, torch.float64)
    leaves = {field: rows.z_Nd.requires_grad_() for field, rows in whole.fields.items()}
    slopes = torch.autograd.grad(NAIVE[name](build_example(name), whole).sum(), list(leaves.values()))
    return dict(zip(leaves, slopes, strict=True))


@pytest.mark.parametrize(("name", "limit"), [("structure_distillation", 1e-6), ("barlow_twins", 1e-6), ("drrho", 2e-6)])
def test_gradients_of_rows_that_are_much_alike(name: str, limit: float) -> None:
    found = build_example(name).solve(problem(name, torch.float32)).rows
    for field, slope_Nd in exact(name).items():
        assert float((found[field] - slope_Nd).norm()) < limit * float(slope_Nd.norm()), field


@pytest.mark.parametrize("tile", [7, ITEMS])
def test_equal_keys_move_no_anchor(tile: int) -> None:
    """The probabilities of each anchor add up to 1, however large the logits are."""
    x, y = problem("infonce", torch.float32).fields.values()
    same = Rows.numbered((x.z_Nd[:1] + y.z_Nd[:1]).expand(ITEMS, DIM).contiguous())
    pair = Pair(x, same, torch.tensor(SCALE), None, tile, shares=(1.0, 0.0))
    slope_Nd = contrast(InfoNCE(), pair, World()).x_Ad * ITEMS
    assert float(slope_Nd.norm(dim=1).max()) < 1e-6 * SCALE
