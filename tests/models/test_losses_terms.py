"""Terms on two processes, with missing rows and unequal numbers of rows, equal one process and autograd."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import on_ranks

ITEMS, DIM = 10, 6
TERMS = (
    TermConfig(between=("image", "text")),
    TermConfig(between=("audio", "text"), objective=ObjectiveConfig(name="sigmoid"), weight=0.7),
    TermConfig(between=("image", "audio"), weight=0.5),
)
# The first rank has two sounds and two images, the second has four of each.
EXISTS = {"image": [3, 4, 5, 6, 7, 8], "audio": [0, 3, 5, 6, 8, 9], "text": [0, 1, 2, 3, 4, 5, 7, 8, 9]}
NOTHING = {**EXISTS, "audio": [5, 6, 8, 9]}  # no sound at all on the first rank
DISJOINT = {**EXISTS, "audio": [0, 9], "image": [3, 4]}  # no item has both
GROUPS = torch.tensor([0, 1, 2, 3, 0, 3, 4, 5, 0, 3])
TEMPERATURES: dict[str, tuple[Tensor, Tensor | None]] = {
    "image-text": (torch.tensor([4.0], dtype=torch.float64), None),
    "audio-text": (torch.tensor([3.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)),
    "image-audio": (torch.tensor([6.0], dtype=torch.float64), None),
}


def shard(layout: Mapping[str, list[int]], world: World) -> tuple[Batch, dict[str, Tensor]]:
    """The items and vectors of this rank; in one process, the whole batch."""
    random = torch.Generator().manual_seed(0)
    own = list(world.share(range(ITEMS)))
    fields, vectors = {}, {}
    for name, items in layout.items():
        whole = normalize(torch.randn(ITEMS, DIM, generator=random, dtype=torch.float64), dim=1)
        here = [item for item in items if item in own]
        fields[name] = Field(name, torch.zeros(len(here)), torch.tensor([item - own[0] for item in here]).long())
        vectors[name] = whole[here]
    return Batch(torch.tensor(own), GROUPS[own], fields), vectors


def solve(world: World, layout: Mapping[str, list[int]], tile: int) -> Outcome:
    batch, vectors = shard(layout, world)
    return Terms(TERMS, tile)(batch, vectors, TEMPERATURES, world)


def solve_all(world: World, layouts: list[Mapping[str, list[int]]]) -> list[Outcome]:
    return [solve(world, layout, tile=3) for layout in layouts]


LAYOUTS: list[Mapping[str, list[int]]] = [EXISTS, NOTHING, DISJOINT]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[Outcome]]:
    return on_ranks(solve_all, 2, LAYOUTS)


@pytest.mark.parametrize("index", range(len(LAYOUTS)))
def test_two_processes_equal_one(two_ranks: list[list[Outcome]], index: int) -> None:
    alone = solve(World(), LAYOUTS[index], tile=ITEMS)
    ranks = [rank[index] for rank in two_ranks]
    for name, rows in alone.rows.items():
        torch.testing.assert_close(torch.cat([rank.rows[name] for rank in ranks]), rows, rtol=1e-12, atol=1e-14)
    for rank in ranks:
        torch.testing.assert_close(rank.loss, alone.loss, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rank.losses, alone.losses, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rank.temperatures, alone.temperatures, rtol=1e-12, atol=1e-14)


def test_one_process_equals_autograd_on_items_with_both_fields() -> None:
    batch, vectors = shard(EXISTS, World())
    leaves = {name: rows.clone().requires_grad_() for name, rows in vectors.items()}
    scales = {term: scale.clone().requires_grad_() for term, (scale, _) in TEMPERATURES.items()}
    total = torch.zeros((), dtype=torch.float64)
    for term in TERMS:
        both = [item for item in EXISTS[term.between[0]] if item in EXISTS[term.between[1]]]
        x, y = (leaves[name][[EXISTS[name].index(item) for item in both]] for name in term.between)
        total = total + term.weight * naive(scales[term.name] * x @ y.T, TEMPERATURES[term.name][1], both)
    total.backward()  # type: ignore[no-untyped-call]
    found = Terms(TERMS, 4)(batch, vectors, TEMPERATURES, World())
    torch.testing.assert_close(found.loss, total.detach(), rtol=1e-12, atol=1e-14)
    for name, leaf in leaves.items():
        torch.testing.assert_close(found.rows[name], leaf.grad, rtol=1e-12, atol=1e-14)
    for name, scale in scales.items():
        torch.testing.assert_close(found.temperatures[name][0].reshape(1), scale.grad, rtol=1e-12, atol=1e-14)


def naive(logits: Tensor, bias: Tensor | None, items: list[int]) -> Tensor:
    itself = torch.eye(len(items), dtype=torch.bool)
    same = GROUPS[items][:, None].eq(GROUPS[items]) & ~itself
    if bias is None:
        masked, label = logits.masked_fill(same, -torch.inf), torch.arange(len(items))
        return (cross_entropy(masked, label) + cross_entropy(masked.T, label)) / 2
    sign = torch.where(itself, 1.0, -1.0)
    return softplus(-sign * (logits + bias)).masked_fill(same, 0.0).sum() / len(items)


def test_a_term_without_items_is_exactly_zero(two_ranks: list[list[Outcome]]) -> None:
    for rank in two_ranks:
        assert float(rank[2].losses["image-audio"]) == 0.0
        assert [float(slope) for slope in rank[2].temperatures["image-audio"]] == [0.0, 0.0]


# Several rows of a field, wrong captions and a queue: 1 to 3 rewrites, up to 2 wrong captions, two crops.
MORE_TERMS = (
    TermConfig(
        between=("image", "text"), against={"image": ("text.negative",), "text": ("queue.image", "image.local")}
    ),
    TermConfig(name="rewrites", between=("image", "text.rewrite"), weight=0.3),
    TermConfig(name="crops", between=("image.local", "text.rewrite"), objective=ObjectiveConfig(name="sigmoid")),
    TermConfig(name="again", between=("image", "text"), weight=2.0, directions={"image": 3.0, "text": 1.0}),
    TermConfig(name="one way", between=("image", "text"), weight=0.5, directions={"text": 1.0}),
)
ROWS = {"text.negative": 2, "text.rewrite": 3, "image.local": 2}
MORE_EXISTS = {
    "image": [0, 1, 2, 4, 5, 6, 7, 9], "text": [0, 1, 2, 3, 4, 5, 7, 8, 9], "text.negative": [0, 0, 3, 4, 7, 7],
    "text.rewrite": [0, 0, 0, 1, 2, 2, 5, 7, 8], "image.local": [0, 0, 1, 2, 2, 4, 5, 5, 6, 6, 9, 9],
}  # fmt: skip
MORE_TEMPERATURES: dict[str, tuple[Tensor, Tensor | None]] = {
    "image-text": TEMPERATURES["image-text"], "rewrites": TEMPERATURES["image-audio"],
    "crops": TEMPERATURES["audio-text"], "again": TEMPERATURES["image-text"],
    "one way": TEMPERATURES["image-text"],
}  # fmt: skip


def queue() -> Rows:
    """Rows of earlier batches; the second is of a group that two items of this batch are of."""
    random = torch.Generator().manual_seed(3)
    z_Nd = normalize(torch.randn(4, DIM, generator=random, dtype=torch.float64), dim=1)
    return Rows.frozen(z_Nd, torch.tensor([90, 3, 91, 92]), torch.arange(100, 104))


def more_shard(world: World) -> tuple[Batch, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    own = list(world.share(range(ITEMS)))
    fields, vectors = {}, {}
    for name, items in MORE_EXISTS.items():
        whole = normalize(torch.randn(len(items), DIM, generator=random, dtype=torch.float64), dim=1)
        here = [row for row, item in enumerate(items) if item in own]
        item_n = torch.tensor([items[row] - own[0] for row in here]).long()
        fields[name] = Field(name.partition(".")[0], torch.zeros(len(here)), item_n)
        vectors[name] = whole[here]
    return Batch(torch.tensor(own), GROUPS[own], fields), vectors


def solve_more(world: World) -> tuple[Outcome, Tensor]:
    batch, vectors = more_shard(world)
    terms, known = Terms(MORE_TERMS, 3, ROWS), Known({"queue.image": queue()})
    found = terms(batch, vectors, MORE_TEMPERATURES, world, known)
    return found, terms.item_losses(batch, vectors, MORE_TEMPERATURES, world, known)


def test_several_rows_and_extra_negatives_equal_autograd_and_two_processes() -> None:
    _, vectors = more_shard(World())
    leaves = {name: rows.clone().requires_grad_() for name, rows in vectors.items()}
    total, item_losses = naive_more(leaves)
    total.backward()  # type: ignore[no-untyped-call]
    found, losses = solve_more(World())
    torch.testing.assert_close(found.loss, total.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(losses.double(), item_losses.detach(), rtol=1e-5, atol=1e-6, equal_nan=True)
    for name, leaf in leaves.items():
        torch.testing.assert_close(found.rows[name], leaf.grad, rtol=1e-12, atol=1e-14)
    ranks = on_ranks(solve_more, 2)
    for name, rows in found.rows.items():
        torch.testing.assert_close(torch.cat([rank.rows[name] for rank, _ in ranks]), rows, rtol=1e-12, atol=1e-14)
    for rank, rank_losses in ranks:
        torch.testing.assert_close(rank.losses, found.losses, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rank.temperatures, found.temperatures, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rank_losses, losses, rtol=1e-5, atol=1e-6, equal_nan=True)
        assert rank.gathered["text.rewrite"].number_N.tolist() == [0, 1, 2, 0, 0, 1, 0, 0, 0]
        for one, other in zip(rank.anchors["again"], found.anchors["again"], strict=True):
            torch.testing.assert_close(one.positive, other.positive, rtol=1e-12, atol=1e-14)
            assert (one.side, one.rows.id_N.tolist()) == (other.side, other.rows.id_N.tolist())


def naive_more(z: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Loops over terms, row numbers and anchors. Returns the total loss and the loss of each item."""
    total, weights = torch.zeros(ITEMS, dtype=torch.float64), torch.zeros(ITEMS, dtype=torch.float64)
    loss = torch.zeros((), dtype=torch.float64)
    for term in MORE_TERMS:
        one, other = term.between
        numbers = [(a, b) for a in range(ROWS.get(one, 1)) for b in range(ROWS.get(other, 1))]
        for a, b in numbers:
            x, y = numbered(one, a), numbered(other, b)
            items = [item for item in x if item in y]
            weight = term.weight / len(numbers)
            for item in items:
                mine = naive_anchor(z, term, (one, x), (other, y), item, items)
                total[item] = total[item] + weight * mine
                weights[item] += weight
                loss = loss + weight * mine / len(items)
    return loss, total / weights


def numbered(name: str, number: int) -> dict[int, int]:
    """The row with this number, by item."""
    of_items = {item: [row for row, one in enumerate(MORE_EXISTS[name]) if one == item] for item in range(ITEMS)}
    return {item: rows[number] for item, rows in of_items.items() if len(rows) > number}


def naive_anchor(
    z: dict[str, Tensor], term: TermConfig, x: tuple[str, dict[int, int]], y: tuple[str, dict[int, int]],
    item: int, items: list[int],
) -> Tensor:  # fmt: skip
    scale, bias = MORE_TEMPERATURES[term.name]
    parts = []
    for (anchors, anchor_rows), (keys, key_rows) in ((x, y), (y, x)):
        anchor = z[anchors][anchor_rows[item]]
        positive = scale * anchor @ z[keys][key_rows[item]]
        negatives = [scale * anchor @ z[keys][key_rows[o]] for o in items if GROUPS[o] != GROUPS[item]]
        for name in term.against.get(anchors, ()):
            rows = queue().z_Nd if name == "queue.image" else z[name]
            groups = queue().group_N if name == "queue.image" else GROUPS[MORE_EXISTS[name]]
            wrong = name == "text.negative"
            negatives += [
                scale * anchor @ row for row, g in zip(rows, groups, strict=True) if wrong or g != GROUPS[item]
            ]
        if bias is None:
            parts.append(torch.stack([positive, *negatives]).logsumexp(0) - positive)
        else:
            repelled = torch.stack([scale.new_zeros(1), *(softplus(value + bias) for value in negatives)]).sum()
            parts.append(softplus(-positive - bias) + repelled)
    shares = term.shares or {x[0]: 0.5, y[0]: 0.5}
    return sum(shares[name] * part for name, part in zip((x[0], y[0]), parts, strict=True)).squeeze()


def test_a_weight_changes_linearly_in_its_part_of_the_stage() -> None:
    term = TermConfig.model_validate({"between": ["image", "text"], "weight": 2, "ramp": {"during": [0.2, 0.7]}})
    terms = Terms([term], tile=3, steps=range(100, 200))
    found = [terms.weight(term, step) for step in (100, 120, 145, 170, 199)]
    assert found == pytest.approx([0.0, 0.0, 1.0, 2.0, 2.0])
    batch, vectors = shard(EXISTS, World())
    plain, ramped = (
        Terms([one], tile=3, steps=range(100, 200))(batch, vectors, TEMPERATURES, World(), step=132)
        for one in (TermConfig(between=("image", "text")), term)
    )
    torch.testing.assert_close(ramped.loss, 0.48 * plain.loss)
    for name, rows in plain.rows.items():
        torch.testing.assert_close(ramped.rows[name], 0.48 * rows)
