"""The true gradient, in one process with the whole batch: autograd through the most independent loss that there is.

The towers run in fp32, and the loss in fp64. The loss is a naive one, where the benchmark has one. Else it is the
objective's own definition over the whole matrix of logits; or, for an objective that solves its terms itself, its own
gradients, in one tile.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import chain
from math import inf, isnan
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tercet.benchmarks.gradients.case import ITEMS, LAYOUTS, MICRO_BATCH, Case, make_batch
from tercet.benchmarks.gradients.naive import shared
from tercet.benchmarks.gradients.naive_terms import NAIVE
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.modality import field_of, tokens_of, unnormalised_of
from tercet.models.losses import Objective
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig
from tercet.testing.examples import build_example, example_of
from tercet.testing.objectives import PairProblem, Whole
from tercet.training.loop.step import chunk, seed_dropout

Truth = Literal["naive loss", "whole matrix of its definition", "its own gradients in one tile"]
Gradient = dict[str, Tensor]
Temperatures = Mapping[str, tuple[Tensor, Tensor | None]]


def model_of(case: Case, device: torch.device) -> Multimodal:
    config = case.config()
    return build_model(config.model, config.terms, seed=0).to(device).train()


def true_gradient(case: Case, layout: str, device: torch.device) -> Gradient:
    """The gradient after clipping."""
    gradient = whole_gradient(replace(case, zero=0, clip=0.0), layout, device)
    norm = torch.stack([g.norm() for g in gradient.values()]).norm()
    factor = min(1.0, case.clip / float(norm)) if case.clip else 1.0
    return {name: factor * g for name, g in gradient.items()}


@cache
def whole_gradient(case: Case, layout: str, device: torch.device) -> Gradient:
    model = model_of(case, device)
    batch = make_batch(model, case, layout, World(device=device))
    vectors, temperatures = embed_by_chunk(model, case, layout, device) if case.setting == "dropout" else model(batch)
    losses = [term.weight * true_loss(case, term, vectors, temperatures, batch, layout) for term in case.terms]
    torch.autograd.backward(torch.stack(losses).sum())
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def embed_by_chunk(
    model: Multimodal, case: Case, layout: str, device: torch.device
) -> tuple[dict[str, Tensor], Temperatures]:
    """The vectors of all ranks' chunks, each with its dropout masks and its graph. The layout must have all rows."""
    parts = []
    for rank in range(case.world):
        batch = make_batch(model, case, layout, World(rank, case.world, device))
        for index, part in enumerate(chunk(batch, MICRO_BATCH, World(device=device))):
            seed_dropout(0, 0, rank, index)
            parts.append(model(part)[0])
    temperatures = {term: model.head.temperature(term) for term in model.terms}
    return {name: torch.cat([part[name] for part in parts]) for name in model.outputs}, temperatures


def true_loss(
    case: Case,
    term: TermConfig,
    vectors: Mapping[str, Tensor],
    temperatures: Temperatures,
    batch: Batch,
    layout: str = LAYOUTS[0],
) -> Tensor:
    """A term over the whole batch."""
    kept = case.kept(layout)

    def rows(name: str) -> Rows:
        if name in kept:
            z_N, item_N = (one.to(scale.device) for one in kept[name])
            return Rows(z_N, slice(0, len(z_N)), item_N, item_N, item_N)
        z_N, item_N = vectors[term.vectors_of(name)].double(), batch.fields[field_of(name)].item
        return Rows(z_N, slice(0, len(z_N)), item_N, batch.groups[item_N], batch.ids[item_N])

    objective = case.beside.objective
    scale, bias = temperatures[term.name]
    problem = case.beside.problem(
        {name: rows(name) for name in (*term.between, *chain(*term.against.values()))},
        scale.double(),
        None if bias is None else bias.double(),
        ITEMS,
        World(device=scale.device),
        tokens={name: rows(tokens_of(name)) for name in objective.tokens(term.between)},
        unnormalised={name: rows(unnormalised_of(name)) for name in term.between if objective.unnormalised},
    )
    loss = LOSSES[truth_of(case.objective)](case.objective, objective, problem)
    return loss.reshape(())


def truth_of(name: str) -> Truth:
    """What the gradients of an objective are compared with."""
    if name in NAIVE:
        return "naive loss"
    paired = not example_of(name).rows
    solves = type(build_example(name)).solve is not Objective.solve
    return "whole matrix of its definition" if paired and not solves else "its own gradients in one tile"


def naive(name: str, objective: Objective, problem: Problem) -> Tensor:
    return NAIVE[name](objective, problem)


def whole_matrix(name: str, objective: Objective, problem: Problem) -> Tensor:
    x, y = shared(problem.fields)
    pair = PairProblem(x.z_Nd, y.z_Nd, x.group_N, problem.scale, problem.bias, (x.extra, y.extra))
    return Whole(objective, pair).loss()


def own_gradients(name: str, objective: Objective, problem: Problem) -> Tensor:
    """A scalar that has the gradients that `solve` returns."""
    with torch.no_grad():
        found = objective.solve(problem)
    total = (problem.scale * found.scale).sum()
    if problem.bias is not None:
        total = total + (problem.bias * found.bias).sum()
    every = {**problem.fields, **{tokens_of(field): rows for field, rows in problem.tokens.items()}}
    every |= {unnormalised_of(field): rows for field, rows in problem.unnormalised.items()}
    for more in problem.against.values():
        every |= more
    return total + torch.stack([(rows.z_Nd * found.rows[name]).sum() for name, rows in every.items()]).sum()


LOSSES: dict[Truth, Callable[[str, Objective, Problem], Tensor]] = {
    "naive loss": naive,
    "whole matrix of its definition": whole_matrix,
    "its own gradients in one tile": own_gradients,
}


class Error(NamedTuple):
    """The relative error of a tensor: ‖Δ‖ / max(‖g‖, 1e-3·‖G‖), with G the whole gradient."""

    value: float
    tensor: str


def errors(found: Mapping[str, Tensor], true: Gradient) -> list[Error]:
    least = 1e-3 * torch.stack([g.norm() for g in true.values()]).norm()
    return [Error(float((found[n] - g).norm() / torch.maximum(g.norm(), least)), n) for n, g in true.items()]


def worst(found: list[Error]) -> Error:
    """The largest error. NaN is the worst."""
    return max(found, key=lambda error: inf if isnan(error.value) else error.value)


def is_temperature(error: Error) -> bool:
    return error.tensor.endswith(("log_scale", ".bias")) and "temperatures" in error.tensor
