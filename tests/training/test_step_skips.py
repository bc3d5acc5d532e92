"""A step that is not finite on one rank is skipped by all, at every ZeRO stage, and leaves nothing behind."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tercet.benchmarks.gradients.case import Case, make_batch
from tercet.benchmarks.gradients.ours import WAYS, GradientCase
from tercet.benchmarks.gradients.truth import worst
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.loop.step import Step

Seen = tuple[bool, bool, float]  # was it applied, are all weights bit-equal, the error of the next, sound step


class BrokenBackward(Step):
    """The loss is finite; on the last rank the gradient is not."""

    def _surrogate(self, *parts: object) -> Tensor:
        broken = self.world.rank == self.world.size - 1
        return super()._surrogate(*parts) * (torch.nan if broken else 1.0)  # type: ignore[arg-type]


def skip(world: World, zero: int, way: str, step_type: type[Step]) -> Seen:
    bench = GradientCase(world, Case(world.size, zero))
    model = bench.engine.module
    batch = make_batch(model, bench.case, "all rows", world)  # type: ignore[arg-type]
    if step_type is Step and world.rank == world.size - 1:
        sound = batch.fields["audio"]
        batch = replace(batch, fields={**batch.fields, "audio": replace(sound, values=sound.values * torch.nan)})
    bench.engine.set_learning_rate(1.0)
    taken = step_type(bench.engine, bench.terms, world, 0, WAYS[way])(batch, 0)
    equal = all(bench.engine.whole(p).equal(bench.weights[name]) for name, p in model.named_parameters())
    return taken.stepped.applied, equal, worst(bench.errors(way, "all rows")).value


def skip_all(world: World) -> dict[str, Seen]:
    ways = [("plain", Step), ("cached", Step), ("plain", BrokenBackward), ("cached", BrokenBackward)]
    return {
        f"ZeRO-{zero} {way} {step_type.__name__}": skip(world, zero, way, step_type)
        for zero in range(4)
        for way, step_type in (ways if zero in (0, 2) else ways[1:3])
    }


def test_a_non_finite_loss_on_one_rank_makes_all_ranks_skip_the_step() -> None:
    for rank in on_ranks(skip_all, 2):
        for name, (applied, equal, error) in rank.items():
            assert not applied, name
            assert equal, name
            assert error == pytest.approx(0.0, abs=1e-5), name
