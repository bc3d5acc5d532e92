"""The true gradient: plain autograd through the full matrices of logits, in one process with the whole batch."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import inf, isnan
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from tercet.benchmarks.gradients.case import MICRO_BATCH, Case, make_batch
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.config import TermConfig
from tercet.models.multimodal import Multimodal, build_model
from tercet.training.step import chunk, seed_dropout

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
    terms = case.config().terms
    losses = [term.weight * naive_loss(term, vectors, temperatures, batch) for term in terms]
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
    return {name: torch.cat([part[name] for part in parts]) for name in model.fields}, temperatures


def naive_loss(term: TermConfig, vectors: Mapping[str, Tensor], temperatures: Temperatures, batch: Batch) -> Tensor:
    """A term over the whole batch, from the full matrix of logits. Different items of a group are not negatives."""
    (one, other), (scale, bias) = term.between, temperatures[term.name]
    of_x, of_y = batch.fields[one].item.tolist(), batch.fields[other].item.tolist()
    both = [item for item in of_x if item in of_y]
    x, y = vectors[one][[of_x.index(i) for i in both]], vectors[other][[of_y.index(i) for i in both]]
    logits, group = scale * x @ y.T, batch.groups[both]
    diagonal = torch.eye(len(both), dtype=torch.bool, device=logits.device)
    same = (group[:, None] == group[None]) & ~diagonal
    if bias is None:
        label = torch.arange(len(both), device=logits.device)
        logits = logits.masked_fill(same, -torch.inf)
        return (cross_entropy(logits, label) + cross_entropy(logits.T, label)) / 2
    sign = torch.where(diagonal, 1.0, -1.0)
    return softplus(-sign * (logits + bias)).masked_fill(same, 0.0).sum() / len(both)


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
