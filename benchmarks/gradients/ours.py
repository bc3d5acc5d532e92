"""tercet's gradients: those that the trainer's step passes to the optimizer, on real processes, at every ZeRO stage."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tercet.benchmarks.gradients.case import DIM, ITEMS, LAYOUTS, MICRO_BATCH, TILE, Case, make_batch
from tercet.benchmarks.gradients.truth import Error, errors, model_of, true_gradient, truth_of, worst
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.problem import Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Terms
from tercet.training.engines.build import build_engine
from tercet.training.engines.partition import assemble, placed
from tercet.training.loop.step import Step
from tercet.training.memory.memories import Memories

WAYS = {"plain": None, "cached": MICRO_BATCH}
RATE = 2.0**17  # so large that rounding in `weight - rate · gradient` loses little of the gradient


class Recorder(torch.optim.Optimizer):
    """Gradient descent that records its gradients."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.0, "lr_scale": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.state[parameter]["grad"] = parameter.grad.detach().clone()
                    parameter.add_(parameter.grad, alpha=-group["lr"])


class ExampleMemories(Memories):
    """Offers the vectors of other models, and the values and clusters of samples, of the example. Learns nothing."""

    def __init__(self, case: Case, layout: str) -> None:
        super().__init__({})
        self.case, self.layout = case, layout

    def known(self, batch: Batch) -> Known:
        frozen, beside, device = {}, self.case.beside, batch.ids.device
        for term in self.case.terms:
            for name, key in product(term.between, beside.references):
                vectors = beside.reference(key, name, DIM)[self.case.items(name, self.layout)]
                frozen[f"{key}.{name}"] = Rows.frozen(vectors.float().to(device))
        for name, (z_Nd, kept_N) in self.case.kept(self.layout).items():
            item_N = kept_N.to(device)
            place = torch.nonzero(torch.isin(item_N, batch.ids)).flatten().tolist()
            own = slice(place[0], place[-1] + 1) if place else slice(0, 0)
            frozen[self.case.terms[0].vectors_of(name)] = Rows(z_Nd.float().to(device), own, item_N, item_N, item_N)
        return Known(frozen, self.read, prototypes=self.prototypes)

    def read(self, term: str, id_N: Tensor) -> dict[str, Tensor]:
        beside, (between,) = self.case.beside, [one.between for one in self.case.terms if one.name == term]
        return {
            f"{field}.{column}": beside.column(column, field)[id_N.cpu()].float().to(id_N.device)
            for field, column in product(between, beside.objective.columns)
        }

    def prototypes(self, memory: str, field: str, rows: Rows) -> tuple[Prototypes, Tensor]:
        beside, id_N = self.case.beside, rows.id_N
        like = torch.zeros(1, self.case.config().model.dim or 0, device=id_N.device)
        return beside.prototypes(field, like), beside.label(field)[id_N.cpu()].to(id_N.device)


class GradientCase:
    """One engine, and the gradients that its steps pass to the optimizer."""

    def __init__(self, world: World, case: Case, step_type: type[Step] = Step) -> None:
        config = case.config()
        model = model_of(case, world.device)
        self.world, self.case, self.step_type = world, case, step_type
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.engine = build_engine(model, Recorder(model.parameters()), config, world)
        self.terms = Terms(config.terms, config.tile, case.example.rows)

    def errors(self, way: str, layout: str) -> list[Error]:
        """The error of each tensor's gradient."""
        self.take(way, layout)
        return errors(self.recorded(), true_gradient(self.case, layout, self.world.device))

    def update_errors(self, way: str, layout: str) -> list[Error]:
        """The error of each tensor's change in a step of gradient descent. Afterwards the weights are unusable."""
        self.engine.set_learning_rate(RATE)
        self.take(way, layout)
        changed = {name: self.engine.whole(parameter) for name, parameter in self.engine.module.named_parameters()}
        update = {name: (self.weights[name] - whole) / RATE for name, whole in changed.items()}
        return errors(update, true_gradient(self.case, layout, self.world.device))

    def take(self, way: str, layout: str) -> None:
        module: Any = self.engine.module
        memories = ExampleMemories(self.case, layout)
        step = self.step_type(self.engine, self.terms, self.world, 0, WAYS[way], memories)
        step(make_batch(module, self.case, layout, self.world), 0)

    def recorded(self) -> dict[str, Tensor]:
        """The gradients that the optimizer received, assembled from all ranks."""
        state = self.engine.optimizer.state
        found = {}
        for one in placed(self.engine):
            flat = None if one.fragment is None else state[one.fragment.flat]["grad"]
            found[one.name] = assemble(self.engine, one, flat)
        return found


def measure(world: World, case: Case, step_type: type[Step] = Step) -> Iterator[BenchRow]:
    """The rows of a case: each way to step on each layout, and the update of the weights."""
    bench = GradientCase(world, case, step_type)
    if case.setting == "plain":
        for way, layout in product(WAYS, LAYOUTS):
            yield row(case, f"{way} {case.objective}, {layout}", bench.errors(way, layout))
    else:
        yield row(case, f"cached {case.objective}, {case.setting}", bench.errors("cached", "all rows"))
    yield row(case, f"update {case.objective}, {case.setting}", bench.update_errors("cached", "all rows"))


def row(case: Case, name: str, found: list[Error]) -> BenchRow:
    error, tensor = worst(found)
    sizes = {"world": case.world, "zero": case.zero, "items": ITEMS, "tile": TILE, "micro_batch": MICRO_BATCH}
    beyond = {"tensor": tensor, "truth": truth_of(case.objective)}
    return BenchRow(f"tercet W{case.world} ZeRO-{case.zero} {name}", ours=error, sizes=sizes, beyond=beyond)
