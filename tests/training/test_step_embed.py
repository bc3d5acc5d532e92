"""The step's vectors for scoring are those of evaluation, and taking them leaves no trace, at every ZeRO stage."""

from dataclasses import dataclass

import torch

from tercet.benchmarks.gradients.case import MICRO_BATCH, Case, make_batch
from tercet.benchmarks.gradients.ours import GradientCase
from tercet.benchmarks.gradients.truth import model_of, worst
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.loop.step import Step


@dataclass(frozen=True)
class Traces:
    """How far the vectors are from those of a plain model, what changed, and the error of the next step's gradient."""

    distance: float
    changed: list[str]
    gradient: float


def embed(world: World, zero: int, micro_batch: int | None) -> Traces:
    """Towers with dropout, one of which has a part that never trains, on a batch whose last rank has no sounds."""
    case = Case(world.size, zero, setting="dropout")
    plain = model_of(case, world.device).eval()
    bench = GradientCase(world, case)
    model = bench.engine.module
    next(module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)).eval()
    batch = make_batch(model, case, "one absent", world)  # type: ignore[arg-type]
    modes, draws = [module.training for module in model.modules()], torch.get_rng_state()
    step = Step(bench.engine, bench.terms, world, 0, micro_batch)
    vectors, temperatures = step.embed(batch)
    changed = [] if [module.training for module in model.modules()] == modes else ["modes"]
    changed += [] if torch.equal(torch.get_rng_state(), draws) else ["generator"]
    changed += [name for name, p in model.named_parameters() if not bench.engine.whole(p).equal(bench.weights[name])]
    changed += [name for name, z_nd in vectors.items() if z_nd.requires_grad]
    with torch.no_grad():
        truth, scales = plain(batch)
    rows = {name: truth[name][: len(batch.fields[name])] for name in truth}
    distances = [float((vectors[name] - rows[name]).abs().max()) for name in rows if len(rows[name])]
    distances += [float((temperatures[term][0] - scale).abs()) for term, (scale, _) in scales.items()]
    assert {name: len(z_nd) for name, z_nd in vectors.items()} == {name: len(field) for name, field in batch}
    return Traces(max(distances), changed, worst(bench.errors("cached", "all rows")).value)


def embed_everywhere(world: World) -> dict[str, Traces]:
    ways = [(0, None), (1, MICRO_BATCH), (2, None), (3, None), (3, MICRO_BATCH)]
    return {f"ZeRO-{zero}, micro_batch {rows}": embed(world, zero, rows) for zero, rows in ways}


def test_scoring_gives_the_vectors_of_evaluation() -> None:
    for rank in on_ranks(embed_everywhere, 2):
        for name, traces in rank.items():
            assert traces.distance < 1e-5, name
            assert traces.changed == [], name
            assert traces.gradient < 1e-5, name
