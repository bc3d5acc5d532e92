"""Compares a step on two processes, the second of which has no rows for the encoder, with a step on one."""

from typing import Any

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.config import TowerConfig
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import build_model
from tercet.testing.ranks import on_ranks
from tercet.testing.rows import rows_for
from tercet.testing.verdict import demand_equal
from tercet.training.config import RunConfig
from tercet.training.engines.build import build_engine
from tercet.training.loop.step import Step

ITEMS, RATE = 4, 1.0
BESIDE = {"text": {"encoder": "small:image", "size": 32}}  # a text encoder trains with pictures, any other with text
TEXT = {"encoder": "small:text"}


def steps_alike(modality: str, tower: TowerConfig) -> None:
    alone = on_ranks(weights_after_a_step, 1, modality, tower)[0]
    for weights in on_ranks(weights_after_a_step, 2, modality, tower):
        sentence = "a step on two processes, one of which has no rows for the encoder, is not that of one process"
        demand_equal([weights[name] for name in alone], [*alone.values()], sentence)


def weights_after_a_step(world: World, modality: str, tower: TowerConfig) -> dict[str, Tensor]:
    """The changes to all weights by plain gradient descent on items of which the second half lacks the modality."""
    other = "image" if modality == "text" else "text"
    config = RunConfig.model_validate(recipe(modality, other, tower))
    model = build_model(config.model, config.terms, seed=0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": RATE, "lr_scale": 1.0}]
    engine = build_engine(model, torch.optim.SGD(groups), config, world)
    batch = make_batch({name: model.intakes[name] for name in (modality, other)}, modality, world)
    Step(engine, Terms(config.terms, config.tile), world, 0, None)(batch, 0)
    return {name: engine.whole(p).cpu() - before[name] for name, p in engine.module.named_parameters()}


def recipe(modality: str, other: str, tower: TowerConfig) -> dict[str, Any]:
    return {
        "name": "check",
        "data": {"train": "none"},
        "model": {modality: tower.model_dump(), other: BESIDE.get(modality, TEXT)},
        "pairs": {f"{modality}-{other}": 1.0},
        "precision": "fp32",
        "batch_size": ITEMS,
        "clip": 0.0,
        "zero": 0,
    }


def make_batch(intakes: dict[str, Any], modality: str, world: World) -> Batch:
    """This rank's items."""
    own = [*world.share(range(ITEMS))]
    fields = {}
    for name, intake in intakes.items():
        rows, here = rows_for(intake), [item for item in own if name != modality or item < ITEMS // 2]
        lengths = None if rows.lengths is None else rows.lengths[here]
        fields[name] = Field(name, rows.values[here], torch.tensor(here, dtype=torch.int64) - own[0], lengths)
    return Batch(torch.tensor(own), torch.tensor(own), fields)
