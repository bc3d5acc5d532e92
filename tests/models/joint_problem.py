"""A batch with missing rows, and loops over items, views and products that have the right answers by autograd.

Ranks have unequal numbers of rows, one field has several rows an item, and groups have several items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.symile import permutations
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig

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
