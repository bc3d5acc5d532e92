"""Checks of an objective that solves a term itself: its gradients against its own loss, in every tiling, with groups
and missing rows, at extreme logits, and on two real processes.

Shapes: n rows of a field, d dimensions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import field_of, tokens_of, unnormalised_of
from tercet.models.losses import Objective
from tercet.models.losses.problem import Solution
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing.examples import Beside, Example
from tercet.testing.ranks import on_ranks
from tercet.testing.verdict import demand, demand_equal

# The loss as a function of the fields, the group of each item, the scale and the bias.
Definition = Callable[[Mapping[str, Tensor], Tensor, Tensor, Tensor | None], Tensor]

FIELDS = ("image", "text", "audio")
GROUPS = (0, 1, 0, 2, 3, 3, 4, 0, 5)
ALL = (tuple(range(9)),) * 3
MISSING = ((0, 1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 4, 5, 6, 8), (0, 1, 2, 5, 6, 7, 8))
LAYOUTS = {"all rows": ALL, "missing rows": MISSING, "one item": ((4,),) * 3, "no item": ((0, 1), (2,), ())}
COMPARED = ("all rows", "missing rows", "no item")  # the gradients of one item are rounding errors
BOUNDARY = 4  # the first item of the second of two ranks
TILES = (1, 4, 100)
LONGEST = 3  # tokens of a row
STEP, TOLERANCE = 1e-5, 1e-6  # of finite differences in fp64
WIDEST = 4096


@dataclass(frozen=True)
class JointProblem:
    """Unit rows by field, tokens under the name `tokens_of(FIELD)`, and vectors before normalisation under that of
    `unnormalised_of(FIELD)`; the item of each row; the initial temperature and bias of the objective, and what it
    reads."""

    z: dict[str, Tensor]
    items: dict[str, tuple[int, ...]]
    scale: Tensor
    bias: Tensor | None
    beside: Beside

    @staticmethod
    def of(objective: Objective, example: Example, layout: str) -> "JointProblem":
        random = torch.Generator().manual_seed(0)
        example = with_enough_fields(objective, example)
        items = {
            name: tuple(item for item in rows for _ in range(1 + item % example.rows.get(name, 1)))
            for name, rows in zip(example.between, LAYOUTS[layout], strict=False)
        }
        width = width_of(objective)
        z = {
            name: normalize(torch.randn(len(rows), width, generator=random, dtype=torch.float64), dim=1)
            for name, rows in items.items()
        }
        for field in objective.tokens(example.between):
            length_n = torch.arange(len(items[field])) % LONGEST + 1
            unit = normalize(torch.randn(len(length_n), LONGEST, width, generator=random, dtype=torch.float64), dim=2)
            after_nL = torch.arange(LONGEST) >= length_n[:, None]
            z[tokens_of(field)] = unit.masked_fill(after_nL[..., None], 0.0)
            items[tokens_of(field)] = items[field]
        for field in example.between if objective.unnormalised else ():
            shape = len(items[field]), width
            z[unnormalised_of(field)] = 2 * torch.randn(shape, generator=random, dtype=torch.float64)
            items[unnormalised_of(field)] = items[field]
        scale = torch.tensor([min(objective.scale, 5.0)], dtype=torch.float64)
        bias = None if objective.bias is None else torch.tensor([objective.bias / 4], dtype=torch.float64)
        return JointProblem(z, items, scale, bias, Beside(objective, example, len(GROUPS)))

    def variables(self) -> dict[str, Tensor]:
        return {**self.z, "scale": self.scale} | ({} if self.bias is None else {"bias": self.bias})

    def changed(self, name: str, value: Tensor) -> "JointProblem":
        if name in self.z:
            return replace(self, z={**self.z, name: value})
        return replace(self, scale=value) if name == "scale" else replace(self, bias=value)

    def single(self) -> "JointProblem":
        """In fp32, at a scale of 10,000."""
        bias = None if self.bias is None else self.bias.float()
        z = {name: rows.float() for name, rows in self.z.items()}
        return JointProblem(z, self.items, torch.tensor([1e4]), bias, self.beside)

    def solve(self, objective: Objective, tile: int, world: World) -> Solution:
        groups = torch.tensor(GROUPS)
        rows = {}
        for name, z_nd in self.z.items():
            item_n = torch.tensor(self.items[name], dtype=torch.int64)
            first = int((item_n < BOUNDARY).sum())
            own = [slice(0, first), slice(first, len(item_n))][world.rank] if world.size > 1 else slice(0, len(item_n))
            rows[name] = Rows(z_nd, own, item_n, groups[item_n], item_n)
        fields = {field: rows[field] for field in rows if field == field_of(field)}
        tokens, unnormalised = (
            {field: rows[name(field)] for field in fields if name(field) in rows}
            for name in (tokens_of, unnormalised_of)
        )
        problem = self.beside.problem(
            fields, self.scale, self.bias, tile, world, seed=5, tokens=tokens, unnormalised=unnormalised
        )
        with torch.no_grad():
            return objective.solve(problem)

    def answer(self, objective: Objective, tile: int = 4, world: World | None = None) -> dict[str, Tensor]:
        """The loss and its gradients, by what they belong to."""
        found = self.solve(objective, tile, world or World())
        parts = {"loss": found.loss, **{name: found.rows[name] for name in self.z}, "scale": found.scale.reshape(1)}
        return parts | ({} if self.bias is None else {"bias": found.bias.reshape(1)})


def with_enough_fields(objective: Objective, example: Example) -> Example:
    """The example, or one of three fields if the objective refuses its fields."""
    term = TermConfig(between=example.between, objective=ObjectiveConfig(name=type(objective).__name__))
    try:
        objective.check(term)
    except UserError:
        return replace(example, between=FIELDS)
    return example


def width_of(objective: Objective) -> int:
    """The narrowest joint space that the objective accepts."""
    width = 6
    while width < WIDEST:
        try:
            objective.check_width("term", width)
            break
        except UserError:
            width *= 2
    return width


def writes_to_no_rows(objective: Objective, example: Example, definition: Definition | None) -> None:
    problem = JointProblem.of(objective, example, "all rows")
    before = {name: value.clone() for name, value in problem.variables().items()}
    problem.solve(objective, 4, World())
    for name, value in problem.variables().items():
        demand(torch.equal(value, before[name]), f"`solve` writes to `{name}` of the problem")


def gives_all_gradients(objective: Objective, example: Example, definition: Definition | None) -> None:
    for layout in LAYOUTS:
        problem = JointProblem.of(objective, example, layout)
        found = problem.answer(objective)
        for name, value in problem.variables().items():
            demand(
                found[name].shape == value.shape,
                f"the gradient of `{name}` has shape {list(found[name].shape)}, not {list(value.shape)}",
            )
        for name, value in found.items():
            demand(bool(torch.isfinite(value).all()), f"the {part(name)} is not finite, with {layout}")


def differentiates_its_loss(objective: Objective, example: Example, definition: Definition | None) -> None:
    """Along random directions of each variable. The padding of tokens stays zero."""
    if definition is not None:
        return equals_its_definition(objective, example, definition)
    random = torch.Generator().manual_seed(1)
    for layout in ("all rows", "missing rows"):
        problem = JointProblem.of(objective, example, layout)
        found = problem.answer(objective)
        for name, value in problem.variables().items():
            for _ in range(3):
                direction = torch.randn(value.shape, generator=random, dtype=value.dtype).masked_fill(value == 0, 0.0)
                ahead, behind = (
                    problem.changed(name, value + step * direction).answer(objective)["loss"] for step in (STEP, -STEP)
                )
                slope, expected = (found[name] * direction).sum(), (ahead - behind) / (2 * STEP)
                demand(
                    bool((slope - expected).abs() <= TOLERANCE * max(float(found[name].norm()), 1.0)),
                    f"the {part(name)} is not the derivative of the loss, with {layout}; if parts of the loss are "
                    "constants on purpose, pass the loss as `definition`",
                )


def equals_its_definition(objective: Objective, example: Example, definition: Definition) -> None:
    problem = JointProblem.of(objective, example, "all rows")
    leaves = {name: value.clone().requires_grad_() for name, value in problem.variables().items()}
    fields = {name: leaves[name] for name in problem.z}
    loss = definition(fields, torch.tensor(GROUPS), leaves["scale"], leaves.get("bias"))
    gradients = torch.autograd.grad(loss.reshape(()), list(leaves.values()), materialize_grads=True)
    expected = {"loss": loss.reshape(()).detach(), **dict(zip(leaves, gradients, strict=True))}
    for name, value in problem.answer(objective).items():
        demand_equal(value, expected[name], f"the {part(name)} is not that of `definition`")


def ignores_the_tiling(objective: Objective, example: Example, definition: Definition | None) -> None:
    for layout in COMPARED:
        problem = JointProblem.of(objective, example, layout)
        expected = problem.answer(objective, tile=TILES[-1])
        for tile in TILES[:-1]:
            for name, value in problem.answer(objective, tile).items():
                demand_equal(value, expected[name], f"the {part(name)} in tiles of {tile} differs, with {layout}")


def stays_finite(objective: Objective, example: Example, definition: Definition | None) -> None:
    found = JointProblem.of(objective, example, "all rows").single().answer(objective)
    finite = all(bool(torch.isfinite(value).all()) for value in found.values())
    demand(finite, "a scale of 10,000 in fp32 gives inf or NaN")


def is_the_same_on_two_ranks(objective: Objective, example: Example, definition: Definition | None) -> None:
    ranks = on_ranks(on_one_of_two, 2, objective, example)
    for layout in COMPARED:
        problem = JointProblem.of(objective, example, layout)
        first, second = (rank[layout] for rank in ranks)
        for name, value in problem.answer(objective).items():
            joined = torch.cat([first[name], second[name]]) if name in problem.z else first[name]
            demand_equal(joined, value, f"on two processes the {part(name)} differs from that on one, with {layout}")


def on_one_of_two(world: World, objective: Objective, example: Example) -> dict[str, dict[str, Tensor]]:
    return {layout: JointProblem.of(objective, example, layout).answer(objective, world=world) for layout in COMPARED}


def part(name: str) -> str:
    return "loss" if name == "loss" else f"gradient of `{name}`"


CHECKS: tuple[Callable[[Objective, Example, Definition | None], None], ...] = (
    writes_to_no_rows,
    gives_all_gradients,
    differentiates_its_loss,
    ignores_the_tiling,
    stays_finite,
    is_the_same_on_two_ranks,
)
