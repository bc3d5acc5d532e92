"""The momentum encoder: a slowly moving copy of the towers and the head that embeds every batch (MoCo, He et al. 2020).

After each applied step, the copy is decay · copy + (1 − decay) · weights. It starts as a copy of the weights. Locked
weights, and buffers such as the fixed statistics of BatchNorm, are those of the model. The decay is fixed, or goes from
`decay` to `last` along half a cosine over the steps of the stage (BYOL, Grill et al. 2020; DINO, Caron et al. 2021).

Where this differs from the paper: the copy is in evaluation mode, so its vectors have no dropout and are the same on
any number of ranks and in any chunks. The paper shuffles samples among GPUs, so that BatchNorm cannot leak which key is
the positive. Here statistics of BatchNorm are fixed, so nothing leaks.

Every rank keeps the whole copy in fp32. At ZeRO stage 3 the ranks gather one parameter at a time after each step, so no
second whole copy exists at any time.
"""

import math
from collections.abc import Iterator

import torch

from tercet.data_pipelines.sample import Batch
from tercet.models.interop.pretrained import TEMPERATURES
from tercet.models.losses.terms import Outcome
from tercet.models.multimodal import build_model
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.batch_encoder import BatchEncoder
from tercet.training.memory.memory import SavedMemory, StageContext


class Momentum(BatchEncoder):
    """An exponential moving average of all trained weights. Checkpoints hold it by the parameters' names."""

    @torch.no_grad()
    def __init__(self, decay: float, last: float, context: StageContext) -> None:
        config = context.config
        super().__init__(build_model(config.model, config.terms, config.seed), context)
        self.engine, self.decay, self.last = context.engine, decay, last
        own = self.model.state_dict()
        for name, value in self.engine.weights():
            own[name].copy_(value)
        trained = [name for name, parameter in self.engine.module.named_parameters() if parameter.requires_grad]
        self.means = {name: own[name] for name in trained if not name.startswith(TEMPERATURES)}

    @torch.no_grad()
    def after(self, batch: Batch, outcome: Outcome) -> None:
        for name, parameter in self.engine.module.named_parameters():
            if name in self.means:
                self.means[name].lerp_(self.engine.whole(parameter), 1 - self.decay_at(outcome.progress))

    def decay_at(self, progress: float) -> float:
        """The decay after a step, before which this share of the stage was done."""
        return self.last - (self.last - self.decay) * (1 + math.cos(math.pi * progress)) / 2

    def state(self) -> Iterator[SavedTensor]:
        for name, mean in self.means.items():
            yield SavedTensor(name, mean)

    @torch.no_grad()
    def restore(self, saved: SavedMemory) -> None:
        for name in self.means.keys() & set(saved.names()):
            mean = self.means[name]
            mean.copy_(self.model.fitted(name, saved.read(name), mean.shape))
