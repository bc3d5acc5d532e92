"""A step on stored features, beside a plain loop over tensors in memory."""

import math
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tercet.benchmarks.cached.case import MODALITIES, SEED, CachedCase
from tercet.benchmarks.step.clock import Side, middle, ratios, take_turns
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal, build_model
from tercet.training.config import RunConfig
from tercet.training.engines.build import build_engine
from tercet.training.engines.optimizers import build_optimizer
from tercet.training.loop.step import Step

DIM, HIDDEN = 512, 1_024
LR, DECAY, CLIP = 1e-3, 0.01, 1.0


class OurSide:
    """The loader, the step and the optimizer of `tercet train`. The locked towers never run."""

    def __init__(self, case: CachedCase) -> None:
        config, world = run_config(case), World()
        self.model: Multimodal = build_model(config.model, config.terms, SEED).train()
        engine = build_engine(self.model, build_optimizer(self.model, config), config, world)
        self._step = Step(engine, Terms(config.terms, config.tile), world, SEED, None)
        self._batches: Iterator[Batch] = iter(case.loader())
        self._taken = 0

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            float(self._step(next(self._batches), self._taken).outcome.loss)  # the trainer reads the loss for its log
            self._taken += 1


class PlainLoop:
    """The loop that one would write: tensors in memory, autograd, AdamW. It starts with the MLPs of our side."""

    def __init__(self, case: CachedCase, ours: OurSide) -> None:
        self.tensors, self.batch = case.tensors(), case.batch
        self.random = torch.Generator().manual_seed(SEED)
        self.model = deepcopy(ours.model.head.projections)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.parameters = [*self.model.parameters(), self.log_scale]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LR, weight_decay=DECAY, fused=True)

    def loss(self, rows: dict[str, Tensor]) -> Tensor:
        image, text = (normalize(self.model[modality](rows[modality]), dim=1) for modality in MODALITIES)
        logits, target = self.log_scale.exp() * image @ text.T, torch.arange(len(image))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            chosen_n = torch.randint(len(self.tensors["image"]), (self.batch,), generator=self.random)
            lost = self.loss({name: values.index_select(0, chosen_n) for name, values in self.tensors.items()})
            self.optimizer.zero_grad()
            lost.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.parameters, CLIP)
            self.optimizer.step()
            float(lost.detach())


def step_row(case: CachedCase, rounds: int, steps: int) -> BenchRow:
    mine = OurSide(case)
    sides: dict[str, Side] = {"ours": mine, "peer": PlainLoop(case, mine)}
    times = take_turns(sides, rounds, steps)
    ours, peer = times["ours"], times["peer"]
    sizes = case.sizes() | {"hidden": HIDDEN, "dim": DIM, "threads": torch.get_num_threads()}
    found = ratios(ours.wall, peer.wall)
    beyond = {
        "ratios": found,
        "ratios, process CPU": ratios(ours.cpu, peer.cpu),
        "seconds, wall": [ours.wall, peer.wall],
    }
    return BenchRow(
        "step", middle(ours.wall), middle(peer.wall), "a plain loop over tensors in memory", middle(found),
        unit="s", sizes=sizes | {"rounds": rounds, "steps": steps}, beyond=beyond,
    )  # fmt: skip


def run_config(case: CachedCase) -> RunConfig:
    tower = {"unlocked": 0, "projection": {"hidden": HIDDEN}, "options": {"width": case.width, "depth": 1}}
    towers = {modality: {"encoder": f"small:{modality}", **tower} for modality in MODALITIES}
    return RunConfig.model_validate(
        {
            "name": "cached",
            "data": {"train": "none"},
            "model": {"dim": DIM, **towers},
            "pairs": {"image-text": 1.0},
            "optimizer": {"lr": LR, "weight_decay": DECAY},
            "precision": "fp32",
            "batch_size": case.batch,
            "clip": CLIP,
        }
    )
