"""A run of one process steps as DeepSpeed would step it at any ZeRO stage."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from tercet.benchmarks.gradients.case import Case, make_batch
from tercet.benchmarks.gradients.ours import WAYS
from tercet.benchmarks.gradients.truth import model_of
from tercet.distributed import World
from tercet.models.losses.terms import Terms
from tercet.testing import on_ranks
from tercet.training.engines.build import build_engine
from tercet.training.engines.deepspeed import DeepSpeedEngine, import_deepspeed
from tercet.training.engines.optimizers import build_optimizer
from tercet.training.loop.step import Step

STEPS = 3


def trained(world: World, make: Any, zero: int, way: str, clip: float) -> tuple[dict[str, Tensor], list[float]]:
    """The weights after a few steps, and the norms of their gradients."""
    case = Case(world.size, zero, clip=clip)
    config, model = case.config(), model_of(case, world.device)
    engine = make(model, build_optimizer(model, config), config, world)
    engine.set_learning_rate(1e-3)
    step = Step(engine, Terms(config.terms, config.tile), world, 0, WAYS[way])
    norms = [step(make_batch(model, case, "rows missing", world), index).stepped.grad_norm for index in range(STEPS)]
    weights = {name: moved(name, engine.whole(parameter)) for name, parameter in engine.module.named_parameters()}
    return weights, norms


def moved(name: str, weight: Tensor) -> Tensor:
    """Without the biases of keys: their gradient is zero but for rounding, and Adam scales that up to whole steps."""
    if not name.endswith("in_proj_bias"):
        return weight
    query, _, value = weight.chunk(3)
    return torch.cat([query, value])


def assert_equals_deepspeed(world: World, way: str, clip: float) -> None:
    plain, norms = trained(world, build_engine, 2, way, clip)
    before = dict(model_of(Case(1, 0), world.device).named_parameters())
    for zero in range(4):
        sharded, theirs = trained(world, DeepSpeedEngine, zero, way, clip)
        assert norms == pytest.approx(theirs, rel=1e-5), zero
        for name, weight in plain.items():
            change = (weight - moved(name, before[name])).norm()
            assert (weight - sharded[name]).norm() < 1e-3 * change, (zero, name)


@pytest.mark.parametrize(("way", "clip"), [("plain", 0.1), ("cached", 0.0)])
def test_the_plain_engine_of_one_process_equals_deepspeed(way: str, clip: float) -> None:
    on_ranks(assert_equals_deepspeed, 1, way, clip)


def assert_built_without_collector(world: World) -> None:
    case, states = Case(world.size, 1), []
    config, model = case.config(), model_of(case, world.device)
    deepspeed = import_deepspeed()
    initialize = deepspeed.initialize

    def watched(**arguments: Any) -> Any:
        states.append(gc.isenabled())
        return initialize(**arguments)

    deepspeed.initialize = watched
    DeepSpeedEngine(model, build_optimizer(model, config), config, world)
    assert states == [False]
    assert gc.isenabled()


def test_the_garbage_collector_does_not_interrupt_the_imports_of_deepspeed() -> None:
    on_ranks(assert_built_without_collector, 1)
