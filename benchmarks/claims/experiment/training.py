"""Trains small towers: with the loss of one objective, or with the terms and memories of a run.

Towers are any module that turns the values of each field into unit vectors.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.head import Temperature
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.training.memory.memories import NO_MEMORIES, Memories

Values = Mapping[str, Tensor]  # by field


def fit(towers: nn.Module, objective: Mapping[str, Any], draw: Callable[[int], Values], steps: int, lr: float) -> None:
    """Trains on the values that `draw` returns for each step; row i of every field belongs to item i."""
    criterion = loss(**objective)
    temperature = Temperature(criterion.objective)

    def loss_at(step: int) -> Tensor:
        scale, bias = temperature()
        total: Tensor = criterion(**towers(draw(step)), scale=scale, bias=bias, seed=step)
        return total

    descend(nn.ModuleList([towers, temperature]), loss_at, steps, lr)


def fit_term(
    towers: nn.Module,
    config: TermConfig,
    draw: Callable[[int], Batch],
    steps: int,
    lr: float,
    memories: Memories = NO_MEMORIES,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Trains one term of a run, such as one that reads memories. `counts`: rows of a field by item, if several."""
    terms = Terms([config], tile=512, counts=counts)
    temperature = Temperature(terms.objectives[config.name])

    def loss_at(step: int) -> Tensor:
        batch = draw(step)
        vectors = towers({name: field.values for name, field in batch})
        scale, bias = temperature()
        detached = {name: z_nd.detach() for name, z_nd in vectors.items()}
        known = scale.detach(), None if bias is None else bias.detach()
        outcome = terms(batch, detached, {config.name: known}, World(), memories.known(batch), step)
        memories.after(batch, outcome)
        return surrogate(vectors, (scale, bias), outcome, config.name)

    descend(nn.ModuleList([towers, temperature]), loss_at, steps, lr)


def descend(model: nn.Module, loss_at: Callable[[int], Tensor], steps: int, lr: float) -> None:
    """AdamW; the learning rate follows a cosine down to zero."""
    optimizer = AdamW(model.parameters(), lr=lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        loss_at(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def surrogate(vectors: Values, temperature: tuple[Tensor, Tensor | None], outcome: Outcome, term: str) -> Tensor:
    """A scalar with the gradients that the terms found."""
    total = torch.stack([(z_nd * outcome.rows[name]).sum() for name, z_nd in vectors.items()]).sum()
    for value, slope in zip(temperature, outcome.temperatures[term], strict=True):
        if value is not None:
            total = total + (value * slope).sum()
    return total


def batch_of(values: Values, ids: Tensor) -> Batch:
    """A batch of samples with these ids. Each is its own group, and all its rows of a field follow one another."""
    item_n = torch.arange(len(ids))
    fields = {name: Field(name, rows, item_n.repeat_interleave(len(rows) // len(ids))) for name, rows in values.items()}
    return Batch(ids, ids, fields)
