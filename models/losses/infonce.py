"""InfoNCE: each anchor picks its key out of all keys, in both directions (Sohn 2016; CLIP, Radford et al. 2021)."""

import torch
from torch import Tensor

from tercet.models.losses.objective import Objective, objective


@objective("infonce")
class InfoNCE(Objective):
    """The symmetric softmax cross entropy over the batch."""

    def reduce(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits, dim=1)

    def merge(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.logaddexp(one, other)

    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return (logits - reduced).exp_()
