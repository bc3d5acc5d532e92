"""Objectives that solve a term themselves equal loops over items, views and products that autograd differentiates."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_term
from tercet.models.losses.standalone import loss
from tercet.models.losses.symile import permutations
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks
from tests.models.joint_problem import CASES, EXISTS, GROUPS, ITEMS, STEP, align_uniform, case, shard, solve


def solve_all(world: World) -> list[tuple[Outcome, Tensor]]:
    return [solve(case, 3, world) for case in CASES]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[tuple[Outcome, Tensor]]]:
    return on_ranks(solve_all, 2)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[repr(case) for case in CASES])
def test_equals_autograd_in_every_tiling_and_on_two_processes(
    two_ranks: list[list[tuple[Outcome, Tensor]]], index: int
) -> None:
    case = CASES[index]
    _, vectors = shard(World())
    z = {name: rows.clone().requires_grad_() for name, rows in vectors.items()}
    scale = torch.tensor([9.0], dtype=torch.float64, requires_grad=True)
    more = {key: value for key in ("directions", "against") if (value := getattr(case, key))}
    expected = case.naive(z, scale, case.between, **case.options, **more)
    slopes = torch.autograd.grad(expected, [*z.values(), scale], materialize_grads=True)
    found = {tile: solve(case, tile, World())[0] for tile in (1, 4, 1000)}
    for outcome in found.values():
        torch.testing.assert_close(outcome.loss, expected.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(list(outcome.rows.values()), list(slopes[:-1]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(outcome.temperatures["term"][0].reshape(1), slopes[-1], rtol=1e-9, atol=1e-12)
    ranks = [rank[index][0] for rank in two_ranks]
    for name, rows in found[4].rows.items():
        torch.testing.assert_close(torch.cat([rank.rows[name] for rank in ranks]), rows, rtol=1e-11, atol=1e-13)
    for rank in ranks:
        torch.testing.assert_close(rank.loss, found[4].loss, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(rank.temperatures, found[4].temperatures, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("index", [0, 7, 15, 18], ids=["symile", "poly_view", "swav", "matryoshka"])
def test_losses_of_items_average_to_the_loss_on_every_rank(
    two_ranks: list[list[tuple[Outcome, Tensor]]], index: int
) -> None:
    """These terms count all of their items alike, so the mean over the items is the loss up to the weights."""
    outcome, items = solve(CASES[index], 3, World())
    weight = sum(CASES[index].options.get("weights", (1.0,)))
    torch.testing.assert_close(items.nanmean().double() * weight, outcome.loss, rtol=1e-5, atol=0.0)
    for rank in two_ranks:
        torch.testing.assert_close(rank[index][1], items, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_anchors_of_symile_have_their_probability_and_count_their_negatives() -> None:
    case = CASES[0]
    outcome, _ = solve(case, 3, World())
    items = [item for item in range(ITEMS) if all(item in EXISTS[name] for name in case.between)]
    objective = build_term(case.term)
    for number, anchors in enumerate(outcome.anchors["term"]):
        drawn = permutations(STEP, number, 2, len(items)).tolist()
        kept = [
            sum(
                not (column == place or all(GROUPS[items[order[column]]] == GROUPS[item] for order in drawn))
                for column in range(len(items))
            )
            for place, item in enumerate(items)
        ]
        assert anchors.rows.item_N.tolist() == items
        assert anchors.negatives.tolist() == kept
        assert (anchors.negatives + anchors.masked).tolist() == [len(items) - 1] * len(items)
    losses = torch.stack([-objective.probability(anchors).log().mean() for anchors in outcome.anchors["term"]])
    torch.testing.assert_close(losses.mean(), outcome.loss)


def test_losses_of_items_of_align_uniform_are_high_for_items_that_are_not_aligned() -> None:
    batch, vectors = shard(World())
    vectors["text"][EXISTS["text"].index(5)] = -vectors["image"][EXISTS["image"].index(5)]
    term = case(align_uniform, "image text", "align_uniform", uniformity=0.0).term
    temperatures: Any = {"term": (torch.tensor([1.0], dtype=torch.float64), None)}
    losses = Terms([term], 3).item_losses(batch, vectors, temperatures, World())
    assert int(losses.nan_to_num(-1.0).argmax()) == 5


def unit(seed: int, rows: int = 9, dtype: torch.dtype = torch.float64) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, 16, generator=random, dtype=dtype), dim=1).requires_grad_()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("matryoshka", {"dims": [16]}),
        ("poly_view", {"own_view": False}),
        ("poly_view", {"own_view": False, "mean": "arithmetic"}),
    ],
)
def test_limits_equal_infonce(name: str, options: dict[str, Any]) -> None:
    """One full prefix, and two views that meet only each other."""
    leaves = [unit(0), unit(1), torch.tensor(8.0, dtype=torch.float64, requires_grad=True)]
    given = (normalize(leaves[0], dim=1), normalize(leaves[1], dim=1), leaves[2])
    found, expected = loss(name, tile=4, **options)(*given), loss("infonce")(*given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0.0)
    slopes = torch.autograd.grad(found, leaves, retain_graph=True)
    torch.testing.assert_close(slopes, torch.autograd.grad(expected, leaves), rtol=1e-9, atol=1e-12)


def test_two_views_of_one_encoder_are_simclr() -> None:
    """NT-Xent over 2N rows, each of which must find the other view among all rows but itself."""
    one, other = unit(0), unit(1)
    rows = torch.cat([one, other])
    logits = (6.0 * rows @ rows.T).masked_fill(torch.eye(18, dtype=torch.bool), -torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(18).roll(9))
    found = loss("poly_view", tile=5)(one=one, other=other, scale=6.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(torch.autograd.grad(found, one), torch.autograd.grad(expected, one))


def test_symile_tells_what_no_pair_of_fields_can() -> None:
    """Signs x, y and their product: all pairs of fields are unrelated, but the three belong together."""
    signs = torch.tensor(list(product([1.0, -1.0], repeat=2)), dtype=torch.float64)
    x, y = signs[:, :1], signs[:, 1:]
    right = loss("symile", negatives="n_squared")(x=x, y=y, z=x * y, scale=9.0)
    wrong = loss("symile", negatives="n_squared")(x=x, y=y, z=-x * y, scale=9.0)
    assert float(right) < math.log(16) - 0.5 < math.log(16) < float(wrong)
    pairs = [loss("infonce")(x=x, y=y, z=z, scale=9.0) for z in (x * y, -x * y)]
    torch.testing.assert_close(pairs[0], pairs[1])


@pytest.mark.parametrize("name", ["symile", "poly_view", "align_uniform", "matryoshka"])
def test_high_scales_stay_finite_in_fp32(name: str) -> None:
    fields = {f"field{number}": unit(number, dtype=torch.float32) for number in range(3)}
    options: dict[str, Any] = {"dims": [2, 16]} if name == "matryoshka" else {}
    scale = torch.tensor(1e5, requires_grad=True)
    found = loss(name, tile=4, **options)(**fields, scale=scale)
    slopes = torch.autograd.grad(found, [*fields.values(), scale])
    assert all(bool(torch.isfinite(value).all()) for value in (found, *slopes))


def test_permutations_depend_only_on_the_seed() -> None:
    first, again, later = (permutations(seed, 0, 2, 50) for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(later)
    assert not first[0].equal(first[1])
    assert first.sort(dim=1).values.equal(torch.arange(50).expand(2, 50))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (
            {"between": ["image", "text"], "objective": "symile"},
            "`symile` compares three or more fields at once, not 2",
        ),
        (
            {"between": ["a", "b", "c"], "objective": "symile", "against": {"a": ["d"]}},
            "terms.term.against: `symile` takes no extra negatives",
        ),
        (
            {"between": ["a", "b"], "objective": "poly_view", "directions": {"a": 1}},
            "terms.term.directions: `poly_view` does not weigh directions",
        ),
        (
            {"between": ["a", "b"], "objective": "align_uniform", "against": {"a": ["d"]}},
            "terms.term.against: `align_uniform` takes no extra negatives",
        ),
        ({"between": ["a", "b"], "objective": "matryoshka"}, r"objective.dims is \[\]; give different numbers"),
        ({"between": ["a", "b"], "objective": {"name": "matryoshka", "dims": [4, 4]}}, "give different numbers"),
        (
            {"between": ["a", "b"], "objective": {"name": "matryoshka", "dims": [2, 4], "weights": [1.0]}},
            "give 2 numbers above 0",
        ),
        (
            {"between": ["a", "b"], "objective": {"name": "matryoshka", "dims": [2], "scale": 20}},
            "objective.scale of matryoshka is that of the objective `of`",
        ),
        (
            {
                "between": ["a", "b"],
                "objective": {"name": "matryoshka", "dims": [2], "of": {"name": "matryoshka", "dims": [2]}},
            },
            "objective.of: `matryoshka` cannot be used on prefixes",
        ),
        (
            {"between": ["a", "b"], "objective": {"name": "matryoshka", "dims": [2], "of": "isogclr"}},
            "objective.of: `isogclr` cannot be used on prefixes",
        ),
        (
            {"between": ["a", "b"], "objective": {"name": "matryoshka", "dims": [2], "of": "symile"}},
            "`symile` compares three or more fields",
        ),
        ({"between": ["a", "b"], "objective": {"name": "align_uniform", "t": 0}}, "objective.t = 0"),
    ],
)
def test_terms_that_cannot_be_are_rejected(raw: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError, match=error):
        build_term(TermConfig.model_validate({"name": "term", **raw}))


def test_prefixes_longer_than_the_vectors_are_rejected() -> None:
    with pytest.raises(UserError, match=r"objective\.dims: 32 is more than the 16 dimensions of the vectors"):
        loss("matryoshka", dims=[8, 32])(image=unit(0), text=unit(1), scale=1.0)
    kind = build_term(
        TermConfig.model_validate({"between": ["a", "b"], "objective": {"name": "matryoshka", "dims": [9]}})
    )
    with pytest.raises(
        UserError, match=r"terms\.a-b\.objective\.dims: 9 is more than the 8 dimensions of the joint space"
    ):
        kind.check_width("a-b", 8)


def test_matryoshka_takes_temperature_and_bias_of_its_objective() -> None:
    term = {
        "between": ["a", "b"],
        "objective": {"name": "matryoshka", "dims": [2], "of": {"name": "sigmoid", "scale": 5}},
    }
    kind = build_term(TermConfig.model_validate(term))
    assert (kind.scale, kind.bounds, kind.bias) == (5.0, (1.0, 1000.0), -10.0)
