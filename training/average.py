"""The exponential moving average of the weights, kept on each rank's own partition."""

import torch
from torch import Tensor

from tercet.training.engine import Engine
from tercet.training.partition import placed


class Average:
    """One averaged copy of every flat tensor that the optimizer steps."""

    def __init__(self, engine: Engine, decay: float) -> None:
        self.decay = decay
        flats = {one.fragment.flat.data_ptr(): one.fragment.flat for one in placed(engine) if one.fragment}
        self.flats = list(flats.values())
        self.means = [flat.detach().clone() for flat in self.flats]
        self._by_flat = dict(zip(flats, self.means, strict=True))

    def of(self, flat: Tensor) -> Tensor:
        return self._by_flat[flat.data_ptr()]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self.means, self.flats, 1 - self.decay)
