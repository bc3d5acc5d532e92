"""The exponential moving average of the weights, for evaluation. Each rank averages its own partition."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.models.losses.terms import Outcome
from tercet.models.multimodal import Multimodal
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.engines.engine import Engine, Fragment
from tercet.training.engines.partition import assemble, placed
from tercet.training.memory.memory import Memory, SavedMemory


class Ema(Memory):
    """An averaged copy of each flat tensor that the optimizer updates. Checkpoints hold it by the parameters' names."""

    def __init__(self, engine: Engine, decay: float) -> None:
        self.engine, self.decay = engine, decay
        flats = {one.fragment.flat.data_ptr(): one.fragment.flat for one in placed(engine) if one.fragment}
        self.flats = list(flats.values())
        self.means = [flat.detach().clone() for flat in self.flats]
        self._mean_of = dict(zip(flats, self.means, strict=True))

    @torch.no_grad()
    def after(self, batch: Batch, outcome: Outcome) -> None:
        torch._foreach_lerp_(self.means, self.flats, 1 - self.decay)

    def state(self) -> Iterator[SavedTensor]:
        for one in placed(self.engine):
            mean = None if one.fragment is None else self._mean(one.fragment)
            yield SavedTensor(one.name, assemble(self.engine, one, mean))

    @torch.no_grad()
    def restore(self, saved: SavedMemory) -> None:
        known, model = set(saved.names()), self.engine.module
        assert isinstance(model, Multimodal)
        for one in placed(self.engine):
            if one.fragment is not None and one.name in known:
                mean = model.fitted(one.name, saved.read(one.name), one.shape)
                one.fragment.copy(mean, self._mean(one.fragment))

    def _mean(self, fragment: Fragment) -> Tensor:
        return self._mean_of[fragment.flat.data_ptr()]
