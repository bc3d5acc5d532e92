"""tercet's side: the engine, the optimizer and the step that `tercet train` uses, in one process."""

import torch
from torch import nn

from tercet.benchmarks.step.case import BETAS, CLIP, DECAY, EPS, LR, StepCase
from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import build_model
from tercet.training.config import RunConfig
from tercet.training.engines.build import build_engine
from tercet.training.engines.deepspeed import DeepSpeedEngine
from tercet.training.engines.optimizers import build_optimizer
from tercet.training.loop.step import Step


class OurSide:
    """Takes steps on one batch. The images are bytes, which the tower normalises."""

    def __init__(self, case: StepCase, deepspeed: bool = False) -> None:
        world, config = World(device=case.device), run_config(case)
        model = build_model(config.model, config.terms, config.seed).to(case.device).train()
        build = DeepSpeedEngine if deepspeed else build_engine
        self.engine = build(model, build_optimizer(model, config), config, world)
        self._step = Step(self.engine, Terms(config.terms, config.tile), world, config.seed, None)
        item = torch.arange(case.batch)
        fields = {"image": Field("image", case.images(), item), "text": Field("text", case.texts(), item)}
        self._batch = Batch(item, item, fields).to(case.device)

    @property
    def model(self) -> nn.Module:
        return self.engine.module

    def __call__(self, steps: int) -> None:
        for index in range(steps):
            self.engine.set_learning_rate(LR)
            float(self._step(self._batch, index).outcome.loss)  # the trainer reads the loss for its log, too


def run_config(case: StepCase) -> RunConfig:
    tower = {"encoder": f"open_clip:{case.model}", "options": dict(case.options)}
    return RunConfig.model_validate(
        {
            "name": "step",
            "data": {"train": "none"},
            "model": {"image": tower, "text": tower},
            "pairs": {"image-text": 1.0},
            "optimizer": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY},
            "precision": case.precision,
            "batch_size": case.batch,
            "clip": CLIP,
        }
    )
