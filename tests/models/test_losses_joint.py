"""Objectives that solve a term themselves equal loops over items, views and products that autograd differentiates.

Rows are missing, ranks have unequal numbers of rows, one field has several rows an item, and groups have several items.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_term
from tercet.models.losses.standalone import loss
from tercet.models.losses.symile import permutations
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks

ITEMS, DIM, STEP = 10, 6, 7
GROUPS = [0, 1, 2, 3, 0, 3, 4, 5, 0, 3]
ROWS = {"text.rewrite": 2}
EXISTS = {
    "image": [0, 1, 2, 4, 5, 6, 7, 9],
    "audio": [0, 2, 3, 5, 6, 7, 8, 9],
    "text": [0, 1, 2, 3, 4, 5, 6, 7, 9],
    "text.rewrite": [0, 0, 1, 2, 2, 5, 6, 6, 9],
}
Rows = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    naive: Callable[..., Tensor]
    between: tuple[str, ...]
    name: str
    options: Mapping[str, Any]
    directions: Mapping[str, float]
    against: Mapping[str, tuple[str, ...]]

    @property
    def term(self) -> TermConfig:
        objective = {"name": self.name, **self.options}
        values = {"between": self.between, "objective": objective, "directions": self.directions}
        return TermConfig.model_validate({**values, "against": self.against, "name": "term"})

    def __repr__(self) -> str:
        return " ".join([self.name, *self.between, *(f"{key}={value}" for key, value in self.options.items())])


def case(
    naive: Callable[..., Tensor], between: str, name: str, *, directions: Any = (), against: Any = (), **options: Any
) -> Case:
    return Case(naive, tuple(between.split()), name, options, dict(directions), dict(against))


def row_of(name: str, item: int, number: int) -> int | None:
    """The row of an item with this number."""
    rows = [row for row, one in enumerate(EXISTS[name]) if one == item]
    return rows[number] if number < len(rows) else None


def numbers(fields: tuple[str, ...]) -> list[tuple[int, ...]]:
    return list(product(*(range(ROWS.get(name, 1)) for name in fields)))


def symile(
    z: Rows, scale: Tensor, fields: tuple[str, ...], negatives: str = "n", missing: str = "leave_out",
    directions: Mapping[str, float] | None = None,
) -> Tensor:  # fmt: skip
    total = scale.new_zeros(())
    for chosen in numbers(fields):
        rows = [
            {item: row_of(name, item, number) for item in range(ITEMS)}
            for name, number in zip(fields, chosen, strict=True)
        ]
        needed = len(fields) if missing == "leave_out" else 2
        items = [item for item in range(ITEMS) if sum(of[item] is not None for of in rows) >= needed]

        def vector(field: int, item: int) -> Tensor:
            row = rows[field][item]  # noqa: B023  # called only in this turn of the loop
            return z[fields[field]][row] if row is not None else torch.full((DIM,), DIM**-0.5, dtype=torch.float64)

        for anchor, name in enumerate(fields):
            others = [field for field in range(len(fields)) if field != anchor]
            drawn = permutations(STEP, anchor, len(others), len(items)).tolist()
            own = [item for item in items if rows[anchor][item] is not None]
            combos = (
                [[items[order[column]] for order in drawn] for column in range(len(items))]
                if negatives == "n"
                else [list(combo) for combo in product(items, repeat=len(others))]
            )
            for item in own:
                logits = [scale * (vector(anchor, item) * products(vector, others, [item] * len(others))).sum()]
                for column, combo in enumerate(combos):
                    there = [GROUPS[one] for f, one in zip(others, combo, strict=True) if rows[f][one] is not None]
                    if all(group == GROUPS[item] for group in there) or (negatives == "n" and items[column] == item):
                        continue
                    logits.append(scale * (vector(anchor, item) * products(vector, others, combo)).sum())
                share = directions.get(name, 0.0) / sum(directions.values()) if directions else 1 / len(fields)
                part = torch.stack([one.reshape(()) for one in logits]).logsumexp(0) - logits[0].reshape(())
                total = total + share * part / len(own) / len(numbers(fields))
    return total


def products(vector: Callable[[int, int], Tensor], fields: list[int], items: list[int]) -> Tensor:
    found = torch.ones(DIM, dtype=torch.float64)
    for field, item in zip(fields, items, strict=True):
        found = found * vector(field, item)
    return found


def poly_view(
    z: Rows, scale: Tensor, fields: tuple[str, ...], mean: str = "geometric", own_view: bool = True
) -> Tensor:
    views = {
        item: [
            ((name, number), z[name][row])
            for name in fields
            for number in range(ROWS.get(name, 1))
            if (row := row_of(name, item, number)) is not None
        ]
        for item in range(ITEMS)
    }
    views = {item: some for item, some in views.items() if len(some) > 1}
    total = scale.new_zeros(())
    for item, some in views.items():
        for kind, anchor in some:
            negatives = [
                scale * anchor @ key
                for other, keys in views.items()
                for key_kind, key in keys
                if GROUPS[other] != GROUPS[item] and (own_view or key_kind != kind)
            ]
            likely = []
            for positive_kind, positive in some:
                if positive_kind != kind:
                    logits = torch.stack([scale * anchor @ positive, *negatives])
                    likely.append(logits[0].exp() / logits.exp().sum())
            p = torch.stack(likely)
            part = -p.log().mean() if mean == "geometric" else -p.mean().log()
            total = total + part / (len(views) * len(some))
    return total


def align_uniform(
    z: Rows, scale: Tensor, fields: tuple[str, ...], alpha: float = 2.0, t: float = 2.0, uniformity: float = 1.0
) -> Tensor:
    total = scale.new_zeros(())
    pairs = list(combinations(fields, 2))
    for pair in pairs:
        for one, other in numbers(pair):
            rows = [(row_of(pair[0], item, one), row_of(pair[1], item, other)) for item in range(ITEMS)]
            both = [(a, b) for a, b in rows if a is not None and b is not None]
            distances = [(z[pair[0]][a] - z[pair[1]][b]).square().sum() ** (alpha / 2) for a, b in both]
            total = total + torch.stack(distances).mean() / len(pairs) / len(numbers(pair))
    for name in fields:
        items = EXISTS[name]
        potentials = [
            (-t * (2 - 2 * z[name][i] @ z[name][j])).exp()
            for i, j in product(range(len(items)), repeat=2)
            if GROUPS[items[i]] != GROUPS[items[j]]
        ]
        total = total + uniformity * torch.stack(potentials).mean().log() / len(fields)
    return total


def views(z: Rows, one: str, other: str) -> list[tuple[Tensor, Tensor]]:
    """Of each two row numbers, the rows of the items that have both."""
    found = []
    for first, second in numbers((one, other)):
        rows = [(row_of(one, item, first), row_of(other, item, second)) for item in range(ITEMS)]
        both = [(z[one][a], z[other][b]) for a, b in rows if a is not None and b is not None]
        found.append((torch.stack([x for x, _ in both]), torch.stack([y for _, y in both])))
    return found


def barlow_twins(z: Rows, scale: Tensor, fields: tuple[str, ...], redundancy: float = 5e-3) -> Tensor:
    """What is added to variances matters here, because second rows are few."""
    total = scale.new_zeros(())
    pairs = list(combinations(fields, 2))
    for pair in pairs:
        for x, y in views(z, *pair):
            part = scale.new_zeros(())
            for i, j in product(range(DIM), repeat=2):
                a, b = x[:, i] - x[:, i].mean(), y[:, j] - y[:, j].mean()
                deviations = [(side.square().mean() + 1e-12).sqrt() for side in (a, b)]
                correlation = (a * b).mean() / (deviations[0] * deviations[1])
                part = part + ((1 - correlation).square() if i == j else redundancy * correlation.square())
            total = total + part / len(pairs) / len(numbers(pair))
    return total


def swav(
    z: Rows, scale: Tensor, fields: tuple[str, ...], epsilon: float = 0.05, iterations: int = 3,
    directions: Mapping[str, float] | None = None,
) -> Tensor:  # fmt: skip
    total = scale.new_zeros(())
    pairs = list(combinations(fields, 2))
    weight = directions or dict.fromkeys(fields, 1.0)
    for one, other in pairs:
        for x, y in views(z, one, other):
            for name, anchors, target in ((one, x, y), (other, y, x)):
                q = sinkhorn(target.detach().numpy(), epsilon, iterations)
                p = (scale * anchors).exp() / (scale * anchors).exp().sum(dim=1, keepdim=True)
                part = -(q * p.log()).sum(dim=1).mean() * weight.get(name, 0.0) / sum(weight.values()) * len(fields) / 2
                total = total + part / len(pairs) / len(numbers((one, other)))
    return total


def sinkhorn(cosines: Any, epsilon: float, iterations: int) -> Tensor:
    """As the authors write it: rows are prototypes, and both sums are evened out in turn."""
    Q = np.exp(cosines / epsilon).T
    K, B = Q.shape
    Q /= Q.sum()
    for _ in range(iterations):
        Q /= Q.sum(axis=1, keepdims=True) * K
        Q /= Q.sum(axis=0, keepdims=True) * B
    return torch.from_numpy(Q * B).T


def infonce(z: Rows, scale: Tensor, fields: tuple[str, ...], against: Mapping[str, Any] | None = None) -> Tensor:
    """With extra negatives from other fields."""
    items = [item for item in range(ITEMS) if all(item in EXISTS[name] for name in fields)]
    total = scale.new_zeros(())
    for anchors, keys in (fields, fields[::-1]):
        for item in items:
            anchor = z[anchors][EXISTS[anchors].index(item)]
            logits = [scale * anchor @ z[keys][EXISTS[keys].index(item)]]
            others = [(keys, other) for other in items]
            others += [(name, other) for name in (against or {}).get(anchors, ()) for other in EXISTS[name]]
            for name, other in others:
                if GROUPS[other] != GROUPS[item]:
                    logits.append(scale * anchor @ z[name][EXISTS[name].index(other)])
            total = total + (torch.stack(logits).logsumexp(0) - logits[0]) / (2 * len(items))
    return total


def matryoshka(
    z: Rows, scale: Tensor, fields: tuple[str, ...], dims: tuple[int, ...], weights: tuple[float, ...] = (),
    of: Any = "infonce", **rest: Any,
) -> Tensor:  # fmt: skip
    total = scale.new_zeros(())
    for dim, weight in zip(dims, weights or [1.0] * len(dims), strict=True):
        cut = {name: normalize(rows[:, :dim], dim=1) for name, rows in z.items()}
        if of == "infonce":
            part = infonce(cut, scale, fields, **rest)
        else:
            options = {key: value for key, value in of.items() if key != "name"}
            part = poly_view(cut, scale, fields, **options)
        total = total + weight * part
    return total


CASES = [
    case(symile, "image audio text", "symile"),
    case(symile, "image audio text", "symile", negatives="n_squared"),
    case(symile, "image audio text", "symile", negatives="n_squared", missing="constant"),
    case(symile, "image audio text", "symile", missing="constant", directions={"image": 3.0, "text": 1.0}),
    case(symile, "image audio text text.rewrite", "symile"),
    case(symile, "image text text.rewrite", "symile", negatives="n_squared"),
    case(poly_view, "image text", "poly_view"),
    case(poly_view, "image audio text.rewrite", "poly_view"),
    case(poly_view, "image audio text.rewrite", "poly_view", mean="arithmetic"),
    case(poly_view, "image audio text", "poly_view", mean="arithmetic", own_view=False),
    case(poly_view, "image text.rewrite", "poly_view", own_view=False),
    case(align_uniform, "image text", "align_uniform"),
    case(align_uniform, "image audio text", "align_uniform", alpha=1.0, t=3.0, uniformity=0.3),
    case(barlow_twins, "image text", "barlow_twins"),
    case(barlow_twins, "image audio text.rewrite", "barlow_twins", redundancy=0.3),
    case(swav, "image text", "swav"),
    case(swav, "image audio text.rewrite", "swav", epsilon=0.4, iterations=1),
    case(swav, "image text", "swav", directions={"text": 1.0}),
    case(matryoshka, "image text", "matryoshka", dims=(2, 6, 3), weights=(1.0, 0.5, 2.0)),
    case(matryoshka, "image text", "matryoshka", dims=(4, 5), against={"image": ("audio",)}),
    case(
        matryoshka,
        "image audio text.rewrite",
        "matryoshka",
        dims=(3, 5),
        of={"name": "poly_view", "mean": "arithmetic"},
    ),
]


def shard(world: World) -> tuple[Batch, dict[str, Tensor]]:
    """The items and vectors of this rank; in one process, the whole batch."""
    random = torch.Generator().manual_seed(0)
    own = list(world.share(range(ITEMS)))
    fields, vectors = {}, {}
    for name, items in EXISTS.items():
        whole = normalize(torch.randn(len(items), DIM, generator=random, dtype=torch.float64), dim=1)
        here = [row for row, item in enumerate(items) if item in own]
        item_n = torch.tensor([items[row] - own[0] for row in here]).long()
        fields[name] = Field(name.partition(".")[0], torch.zeros(len(here)), item_n)
        vectors[name] = whole[here]
    return Batch(torch.tensor(own), torch.tensor(GROUPS)[own], fields), vectors


def solve(case: Case, tile: int, world: World) -> tuple[Outcome, Tensor]:
    batch, vectors = shard(world)
    temperatures: Any = {"term": (torch.tensor([9.0], dtype=torch.float64), None)}
    terms = Terms([case.term], tile, ROWS, seed=STEP)
    return terms(batch, vectors, temperatures, world), terms.item_losses(batch, vectors, temperatures, world)


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
    """The three terms count all of their items alike, so the mean over the items is the loss up to the weights."""
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
