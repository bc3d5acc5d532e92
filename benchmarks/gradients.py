"""Is the gradient of every parameter, over any number of ranks, that of one process on the whole batch?

The truth is plain autograd through the full matrices of logits, in one process. Ours runs the trainer's own step on real gloo (or NCCL)
processes, at every ZeRO stage. Beside it open_clip's `ClipLoss` in its own modes under the mean reduction of DDP.
The error of a tensor is ‖Δ‖ / max(‖g‖, 1e-3·‖G‖), with G the whole gradient; a case is as good as its worst tensor.
"""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from tercet.benchmarks.table import Row
from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal, build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.engine import Engine
from tercet.training.partition import assemble, placed
from tercet.training.step import Step

ITEMS, MICRO_BATCH, TILE = 24, 5, 7
LAYOUTS = ("all rows", "rows missing", "one absent")
OBJECTIVES = ("infonce", "sigmoid")
LIMIT = 1e-5

CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 48, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TOWERS = {
    "dim": 32,
    "image": {"encoder": "open_clip:ViT-B-32", "options": CLIP},
    "text": {"encoder": "open_clip:ViT-B-32", "options": CLIP},
    "audio": {
        "encoder": "timm:vit_tiny_patch16_224",
        "seconds": 0.5,
        "options": {"depth": 2, "embed_dim": 48, "num_heads": 3},
    },
}


@dataclass(frozen=True)
class Case:
    """What one engine is built for."""

    world: int
    zero: int
    objective: str
    clip: float

    def config(self) -> RunConfig:
        pairs = {"image-text": 1.0, "audio-text": 0.7, "image-audio": 0.5}
        raw = {
            "name": "gradients", "data": {"train": "none"}, "model": TOWERS, "pairs": pairs, "precision": "fp32",
            "objective": self.objective, "batch_size": ITEMS, "zero": self.zero, "clip": self.clip, "tile": TILE,
        }  # fmt: skip
        return RunConfig.model_validate(raw)


class Recorder(torch.optim.Optimizer):
    """Gradient descent that keeps the gradient it was given."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.0, "lr_scale": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.state[parameter]["grad"] = parameter.grad.detach().clone()
                    parameter.add_(parameter.grad, alpha=-group["lr"])


def make_batch(model: Multimodal, layout: str, world: World, seed: int = 0) -> Batch:
    """This rank's items of a synthetic batch with repeated groups; the whole batch in a world of one."""
    random = torch.Generator().manual_seed(seed)
    window = model.intakes["audio"].window  # type: ignore[union-attr]
    values = {
        "image": torch.randint(0, 256, (ITEMS, 3, 32, 32), generator=random, dtype=torch.uint8),
        "audio": torch.randn(ITEMS, window, generator=random) * 0.1,
        "text": torch.randint(1, 49000, (ITEMS, 12), generator=random),
    }
    values["text"][:, -1] = 49407
    groups = torch.arange(ITEMS) % 20
    size = ITEMS // world.size
    own = torch.arange(world.rank * size, (world.rank + 1) * size)
    fields = {}
    for name, rows in values.items():
        item = torch.nonzero(exists(name, layout)[own]).flatten()
        lengths = torch.full((len(item),), window) if name == "audio" else None
        fields[name] = Field(name, rows[own][item], item, lengths)
    return Batch(own, groups[own], fields).to(world.device)


def exists(field: str, layout: str) -> Tensor:
    """Which items have the field. `one absent`: the last quarter, and so the last rank of four, has no sound at all."""
    index = torch.arange(ITEMS)
    if layout == "rows missing":
        return (index * 7 + {"image": 0, "audio": 1, "text": 2}[field]) % 5 != 0
    if layout == "one absent" and field == "audio":
        return index < ITEMS // 4 if ITEMS % 4 else index < 3 * ITEMS // 4
    return torch.ones(ITEMS, dtype=torch.bool)


def naive_loss(model: Multimodal, config: RunConfig, batch: Batch) -> Tensor:
    """The weighted terms over the whole batch, each from its full matrix of logits."""
    vectors, temperatures = model(batch)
    total = torch.zeros((), device=batch.ids.device)
    for term in config.terms:
        (one, other), (scale, bias) = term.between, temperatures[term.name]
        item_x, item_y = batch.fields[one].item, batch.fields[other].item
        both = [i for i in item_x.tolist() if i in item_y.tolist()]
        x = vectors[one][[item_x.tolist().index(i) for i in both]]
        y = vectors[other][[item_y.tolist().index(i) for i in both]]
        logits, group = scale * x @ y.T, batch.groups[both]
        itself = torch.eye(len(both), dtype=torch.bool, device=logits.device)
        same = (group[:, None] == group[None]) & ~itself
        if bias is None:
            label = torch.arange(len(both), device=logits.device)
            logits = logits.masked_fill(same, -torch.inf)
            loss = (cross_entropy(logits, label) + cross_entropy(logits.T, label)) / 2
        else:
            sign = torch.where(itself, 1.0, -1.0)
            loss = softplus(-sign * (logits + bias)).masked_fill(same, 0.0).sum() / len(both)
        total = total + term.weight * loss
    return total


def truth(case: Case, layout: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights, and the gradient after clipping, of one process that holds the whole batch."""
    config = case.config()
    model = build_model(config.model, config.terms, seed=0).to(device)
    naive_loss(model, config, make_batch(model, layout, World(device=device))).backward()
    nn.utils.clip_grad_norm_(model.parameters(), case.clip or float("inf"))
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    return {n: p.detach() for n, p in named}, {n: p.grad for n, p in named if p.grad is not None}


def worst(found: dict[str, Tensor], true: dict[str, Tensor], rounding: dict[str, Tensor] | None = None) -> float:
    """The largest error over all tensors. `rounding`: what these were added to, whose last bit is allowed for."""
    whole = torch.stack([g.norm() for g in true.values()]).norm()
    errors = []
    for name, g in true.items():
        allowed = 0.0 if rounding is None else 2**-23 * float(rounding[name].norm())
        errors.append(max(0.0, float((found[name] - g).norm()) - allowed) / float(torch.maximum(g.norm(), 1e-3 * whole)))
    return max(errors)


def recorded(engine: Engine) -> dict[str, Tensor]:
    state = engine.optimizer.state
    return {one.name: assemble(engine, one, one.fragment and state[one.fragment.flat]["grad"]) for one in placed(engine)}


def measure(world: World, case: Case, step_type: type[Step] = Step) -> dict[str, float]:
    """The worst error of each way to step and each layout of rows, and of the weights after an update."""
    config = case.config()
    model = build_model(config.model, config.terms, seed=0).to(world.device)
    engine = Engine(model, Recorder(model.parameters()), config, world)
    terms = Terms(config.terms, config.tile)
    errors = {}
    for layout, (way, micro_batch) in product(LAYOUTS, (("plain", None), ("cached", MICRO_BATCH))):
        weights, gradient = truth(case, layout, world.device)
        step_type(engine, terms, world, 0, micro_batch)(make_batch(model, layout, world), 0)
        errors[f"{way}, {layout}"] = worst(recorded(engine), gradient)
    rate = 1.0
    engine.set_learning_rate(rate)
    step_type(engine, terms, world, 0, MICRO_BATCH)(make_batch(model, layout, world), 0)
    update = {
        name: (engine.whole(parameter) - weights[name]) / -rate
        for name, parameter in engine.module.named_parameters()
        if name in gradient
    }
    errors["update"] = worst(update, gradient, rounding=weights)
    return errors


def measure_all(world: World, cases: Sequence[Case]) -> list[dict[str, float]]:
    return [measure(world, case) for case in cases]
