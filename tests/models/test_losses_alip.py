"""ALIP equals a loop over items, on one process and two, and the standalone loss keeps its averages."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import on_ranks

ITEMS, DIM = 8, 5
EXISTS = {"image": [0, 1, 2, 4, 5, 6, 7], "text": [0, 1, 1, 2, 3, 4, 5, 6], "text.synthetic": [0, 2, 4, 5, 6, 7]}
SHARED = [0, 2, 4, 5, 6]
FIRST = {"text": {0: 0, 2: 3, 4: 5, 5: 6, 6: 7}}  # the first row of each item, where it is not the only one
GROUPS = torch.tensor([0, 1, 2, 3, 0, 5, 6, 7])
SCALE = torch.tensor([4.0], dtype=torch.float64)
MOMENTUM, STRENGTH = 0.5, 3.0
START = {"captions": 0.2, "raw": 0.4, "synthetic": -0.1}
TERM = TermConfig(
    name="alip",
    between=tuple(EXISTS),
    objective=ObjectiveConfig.model_validate({"name": "alip", "momentum": MOMENTUM, "strength": STRENGTH}),
)


def vectors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        name: normalize(torch.randn(len(items), DIM, generator=random, dtype=torch.float64), dim=1)
        for name, items in EXISTS.items()
    }


def solve(world: World) -> tuple[Outcome, Tensor]:
    own = list(world.share(range(ITEMS)))
    fields, here = {}, {}
    for field, items in EXISTS.items():
        rows = [row for row, item in enumerate(items) if item in own]
        item_n = torch.tensor([items[row] - own[0] for row in rows]).long()
        fields[field] = Field(field.partition(".")[0], torch.zeros(len(rows)), item_n)
        here[field] = vectors()[field][rows]
    batch, terms = Batch(torch.tensor(own), GROUPS[own], fields), Terms([TERM], 3, {"text": 2})
    known = Known(averages={"alip": {name: torch.tensor(value, dtype=torch.float64) for name, value in START.items()}})
    temperatures = {"alip": (SCALE, None)}
    outcome = terms(batch, here, temperatures, world, known)
    return outcome, terms.item_losses(batch, here, temperatures, world, known)


def naive(z: dict[str, Tensor], scale: Tensor) -> tuple[Tensor, dict[str, float]]:
    def row(field: str, item: int) -> Tensor:
        return z[field][FIRST.get(field, {}).get(item, EXISTS[field].index(item))]

    pairs = {"captions": ("text", "text.synthetic"), "raw": ("image", "text"), "synthetic": ("image", "text.synthetic")}
    cosines = {
        key: {item: float((row(one, item) @ row(other, item)).detach()) for item in SHARED}
        for key, (one, other) in pairs.items()
    }
    averages = {
        key: MOMENTUM * START[key] + (1 - MOMENTUM) * sum(found.values()) / len(SHARED)
        for key, found in cosines.items()
    }
    total = scale.new_zeros(())
    for key in ("raw", "synthetic"):
        for item in SHARED:
            sample = min(1.0, math.exp(STRENGTH * (cosines["captions"][item] - averages["captions"])))
            pair = math.exp(STRENGTH * (cosines[key][item] - averages[key])) if sample < 1 else 1.0
            for anchors, keys in (pairs[key], pairs[key][::-1]):
                logits = {
                    other: (scale * (row(anchors, item) @ row(keys, other))).squeeze()
                    for other in SHARED
                    if other == item or GROUPS[other] != GROUPS[item]
                }
                one = torch.stack([*logits.values()]).logsumexp(0) - logits[item]
                total = total + sample * pair * one / 2 / len(SHARED)
    return total, averages


def test_loss_gradients_and_averages_equal_a_loop_on_one_process_and_two() -> None:
    z = {field: rows.clone().requires_grad_() for field, rows in vectors().items()}
    scale = SCALE.clone().requires_grad_()
    total, averages = naive(z, scale)
    total.backward()  # type: ignore[no-untyped-call]
    found, items = solve(World())
    ranks = on_ranks(solve, 2)
    for outcome, losses_of_items in ((found, items), *ranks):
        torch.testing.assert_close(outcome.loss, total.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(outcome.temperatures["alip"][0].reshape(1), scale.grad, rtol=1e-9, atol=1e-12)
        assert {name: float(value) for name, value in outcome.averages["alip"].items()} == pytest.approx(averages)
        # Each item is in two pairs, and the loss of a pair is a mean over the items.
        assert float(losses_of_items.nansum()) * 2 / len(SHARED) == pytest.approx(float(total.detach()), rel=1e-5)
    for field, rows in z.items():
        torch.testing.assert_close(found.rows[field], rows.grad, rtol=1e-9, atol=1e-12)
        both = torch.cat([rank.rows[field] for rank, _ in ranks])
        torch.testing.assert_close(both, rows.grad, rtol=1e-9, atol=1e-12)


def test_the_standalone_loss_keeps_its_averages() -> None:
    """From 1, the momentum's share of it after each call in training mode."""
    random = torch.Generator().manual_seed(0)
    rows = {name: normalize(torch.randn(6, DIM, generator=random), dim=1) for name in ("image", "raw", "synthetic")}
    module = loss("alip", momentum=0.9)
    cosine = float((rows["image"] * rows["raw"]).sum(dim=1).mean())
    for step in range(1, 4):
        module(**rows, scale=torch.tensor(5.0))
        assert float(module.get_buffer("raw")) == pytest.approx(0.9**step + (1 - 0.9**step) * cosine, rel=1e-5)
    before = module.get_buffer("raw").clone()
    module.eval()(**rows, scale=torch.tensor(5.0))
    assert torch.equal(module.get_buffer("raw"), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"between": ["image", "text"]}, "`alip` needs three fields, such as"),
        ({"directions": {"image": 1}}, "directions: `alip` does not weigh directions; remove it"),
        ({"against": {"image": ["text.negative"]}}, "against: `alip` takes no extra negatives; remove it"),
    ],
)
def test_a_term_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    values = {"between": ["image", "text", "text.synthetic"], "objective": "alip", **changes}
    with pytest.raises(UserError, match=message):
        Terms([TermConfig.model_validate(values)], 3)
