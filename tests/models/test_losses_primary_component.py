"""Primary component matching equals autograd through torch.linalg, in fp64, on one and two processes."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.primary_component import Coarse
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks

ITEMS, DIM, KEPT = 14, 9, 3
SCALE = torch.tensor([6.0], dtype=torch.float64)
LACKING = {3, 11}  # these items have no caption, but their pictures count among the components


def vectors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    z = {name: torch.randn(ITEMS, DIM, generator=random, dtype=torch.float64) for name in ("image", "text")}
    return {name: normalize(rows, dim=1) for name, rows in z.items()}


def solve(world: World, components: int = KEPT, smoothing: float = 0.1) -> Outcome:
    own = list(world.share(range(ITEMS)))
    texts = [item for item in own if item not in LACKING]
    items = {"image": own, "text": texts}
    fields = {
        name: Field(name, torch.zeros(len(rows)), torch.tensor([item - own[0] for item in rows]))
        for name, rows in items.items()
    }
    term = TermConfig.model_validate({
        "between": ["image", "text"],
        "objective": {"name": "primary_component", "components": components, "smoothing": smoothing},
    })  # fmt: skip
    here = {name: vectors()[name][rows] for name, rows in items.items()}
    batch = Batch(torch.tensor(own), torch.tensor(own), fields)
    return Terms([term], 4)(batch, here, {"image-text": (SCALE, None)}, world)


def naive(image: Tensor, text: Tensor, scale: Tensor, components: int) -> Tensor:
    """The reconstruction by a singular value decomposition, as the paper has it."""
    mean = image.mean(dim=0)
    _, _, axes = torch.linalg.svd(image - mean, full_matrices=False)
    kept = axes[:components]
    coarse = normalize(mean + (image - mean) @ kept.T @ kept, dim=1)
    paired = [item for item in range(ITEMS) if item not in LACKING]
    logits, own = scale * coarse[paired] @ text[paired].T, torch.arange(len(paired))
    losses = [cross_entropy(one, own, label_smoothing=0.1) for one in (logits, logits.T)]
    return torch.stack(losses).mean()


@pytest.fixture(scope="module")
def expected() -> tuple[Tensor, dict[str, Tensor]]:
    leaves = {name: rows.requires_grad_() for name, rows in vectors().items()}
    loss = naive(leaves["image"], leaves["text"], SCALE, KEPT)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return loss.detach(), dict(zip(leaves, gradients, strict=True))


def assert_equal(found: list[Outcome], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    loss, gradients = expected
    paired = [item for item in range(ITEMS) if item not in LACKING]
    for name, rows in (("image", list(range(ITEMS))), ("text", paired)):
        whole = torch.cat([outcome.rows[name] for outcome in found])
        torch.testing.assert_close(whole, gradients[name][rows], rtol=1e-8, atol=1e-11)
    for outcome in found:
        torch.testing.assert_close(outcome.loss, loss, rtol=1e-10, atol=1e-12)


def test_loss_and_gradients_equal_autograd(expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    assert_equal([solve(World())], expected)


def test_two_processes_give_the_same_gradients(expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    assert_equal(on_ranks(solve, 2), expected)


@pytest.mark.parametrize("rank", [3, DIM])
def test_as_many_components_as_the_rank_reconstruct_the_vectors(rank: int) -> None:
    """Then the gradient passes through, also where the other eigenvalues are all zero."""
    random = torch.Generator().manual_seed(1)
    rows, axes = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((20, rank), (rank, DIM)))
    z = normalize(rows @ axes, dim=1)
    coarse, slope = Coarse.of(z, rank), torch.randn(20, DIM, generator=random, dtype=torch.float64)
    torch.testing.assert_close(coarse.z_Nd, z)
    few = Coarse.of(z[:2], rank)
    torch.testing.assert_close(few.z_Nd, z[:2])
    through = slope[:2] - (slope[:2] * z[:2]).sum(1, keepdim=True) * z[:2]
    torch.testing.assert_close(few.push(slope[:2]), through)
    assert bool(coarse.push(slope).isfinite().all())
    assert Coarse.of(z[:0], rank).push(slope[:0]).shape == (0, DIM)


def test_fewer_components_change_the_loss_and_all_of_them_give_infonce() -> None:
    items = torch.arange(ITEMS)
    fields = {name: Field(name, torch.zeros(ITEMS), items) for name in ("image", "text")}
    batch, given = Batch(items, items, fields), {"image-text": (SCALE, None)}
    losses = []
    for options in ({}, {"name": "primary_component", "components": DIM}, {"name": "primary_component"}):
        objective = {"name": "infonce"} | options
        term = TermConfig.model_validate({"between": ["image", "text"], "objective": objective})
        losses.append(float(Terms([term], 4)(batch, vectors(), given, World()).loss))
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert losses[2] == pytest.approx(losses[0], rel=1e-9), "32 components are more than there are dimensions"
    assert abs(float(solve(World(), smoothing=0.0).loss) - losses[0]) > 1e-2
