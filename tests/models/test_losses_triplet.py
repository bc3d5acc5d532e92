"""The two terms of TripletCLIP equal a naive double loop in fp64, with several rows an item and on two processes."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks

ITEMS, DIM, ROWS = 8, 5, 2
# How many rows each item has. Wrong captions may be more than wrong pictures.
COUNTS = {
    "image": [1, 1, 1, 0, 1, 1, 1, 1],
    "text": [1, 1, 1, 1, 1, 0, 1, 1],
    "image.negative": [2, 1, 0, 2, 2, 0, 1, 2],
    "text.negative": [2, 2, 1, 2, 2, 2, 1, 2],
}
GROUPS = torch.tensor([0, 1, 2, 0, 4, 5, 6, 7])
TERMS = (
    TermConfig(between=("image", "text"), against={"image": ("text.negative",)}),
    TermConfig(name="wrong", between=("image.negative", "text.negative"), against={"image.negative": ("text",)}),
)
SCALES = {
    "image-text": torch.tensor([4.0], dtype=torch.float64),
    "wrong": torch.tensor([3.0], dtype=torch.float64),
}
PAIRED = {"image.negative": "text.negative"}


def items(field: str) -> list[int]:
    return [item for item, count in enumerate(COUNTS[field]) for _ in range(count)]


def vectors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = {field: (sum(counts), DIM) for field, counts in COUNTS.items()}
    return {
        field: normalize(torch.randn(shape, generator=random, dtype=torch.float64), dim=1)
        for field, shape in shapes.items()
    }


def solve(world: World, tile: int) -> Outcome:
    own = list(world.share(range(ITEMS)))
    fields, here = {}, {}
    for field, z_nd in vectors().items():
        rows = [row for row, item in enumerate(items(field)) if item in own]
        item_n = torch.tensor([items(field)[row] - own[0] for row in rows], dtype=torch.int64)
        fields[field] = Field(field.split(".")[0], torch.zeros(len(rows)), item_n)
        here[field] = z_nd[rows]
    batch = Batch(torch.tensor(own), GROUPS[own], fields)
    counts = {"image.negative": ROWS, "text.negative": ROWS}
    temperatures: dict[str, tuple[Tensor, Tensor | None]] = {name: (scale, None) for name, scale in SCALES.items()}
    return Terms(TERMS, tile, counts, paired=PAIRED)(batch, here, temperatures, world)


def negclip(image: dict[int, Tensor], text: dict[int, Tensor], more: list[Tensor], scale: Tensor) -> Tensor:
    """Half of: every picture finds its caption among all captions and `more`; every caption its picture. By item."""
    shared = image.keys() & text.keys()
    total = scale.new_zeros(())
    for anchors, keys, extra in ((image, text, more), (text, image, [])):
        for item in shared:
            others = [keys[other] for other in shared if other != item and GROUPS[other] != GROUPS[item]]
            logits = torch.stack([scale.squeeze() * (anchors[item] @ key) for key in [keys[item], *others, *extra]])
            total = total + (logits.logsumexp(0) - logits[0]) / len(shared) / 2
    return total


def naive(z: dict[str, Tensor], scales: dict[str, Tensor]) -> Tensor:
    def row(field: str, number: int) -> dict[int, Tensor]:
        found: dict[int, list[Tensor]] = {}
        for item, vector in zip(items(field), z[field], strict=True):
            found.setdefault(item, []).append(vector)
        return {item: rows[number] for item, rows in found.items() if len(rows) > number}

    right = negclip(row("image", 0), row("text", 0), list(z["text.negative"]), scales["image-text"])
    wrong = [
        negclip(row("image.negative", j), row("text.negative", j), list(z["text"]), scales["wrong"])
        for j in range(ROWS)
    ]
    return right + torch.stack(wrong).mean()


@pytest.mark.parametrize("tile", [1, 3, 100])
def test_loss_and_gradients_equal_a_loop(tile: int) -> None:
    z = {field: rows.clone().requires_grad_() for field, rows in vectors().items()}
    scales = {name: scale.clone().requires_grad_() for name, scale in SCALES.items()}
    loss = naive(z, scales)
    loss.backward()  # type: ignore[no-untyped-call]
    found = solve(World(), tile)
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-9, atol=1e-12)
    for field, rows in z.items():
        torch.testing.assert_close(found.rows[field], rows.grad, rtol=1e-9, atol=1e-12)
    for name, scale in scales.items():
        torch.testing.assert_close(found.temperatures[name][0].reshape(1), scale.grad, rtol=1e-9, atol=1e-12)


def test_two_processes_find_the_same() -> None:
    one, two = solve(World(), 3), on_ranks(solve, 2, 3)
    for rank in two:
        torch.testing.assert_close(rank.loss, one.loss, rtol=1e-12, atol=1e-12)
    for field, rows in one.rows.items():
        torch.testing.assert_close(torch.cat([rank.rows[field] for rank in two]), rows, rtol=1e-9, atol=1e-12)


def test_without_pairing_rows_of_other_numbers_are_positives_too() -> None:
    batch = Batch(torch.arange(ITEMS), GROUPS, {name: field_of(name) for name in COUNTS})
    temperatures: dict[str, tuple[Tensor, Tensor | None]] = {name: (scale, None) for name, scale in SCALES.items()}
    counts = {"image.negative": ROWS, "text.negative": ROWS}
    apart = Terms(TERMS, 3, counts)(batch, vectors(), temperatures, World())
    assert abs(float(apart.losses["wrong"] - solve(World(), 3).losses["wrong"])) > 1e-3


def field_of(name: str) -> Field:
    return Field(name.split(".")[0], torch.zeros(len(items(name))), torch.tensor(items(name)))
