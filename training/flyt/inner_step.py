"""One inner step: how the loss on a target changes with the score of each pair that the step trains on.

FLYT (Shechtman et al. 2025). The scores q of a batch make the weights w = softmax(q) of a contrastive loss. After one
step of gradient descent on it, θ⁺ = θ − η ∇_θ L(θ, q), the loss on the target has the gradient v with respect to θ⁺.
Then by the chain rule

    d L_target(θ⁺) / dq = −η · d/dε ∇_q L(θ + ε v, q) at ε = 0,

a directional derivative that forward mode computes beside one gradient. No second derivative by θ is ever held. This is
exact for plain gradient descent. The authors step with AdamW, and take the same formula.

Shape letters: N pairs, d dimensions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pairs:
    """What the model takes of each pair, and the group of each: pairs of one group are not negatives of each other."""

    one_Nd: Tensor
    other_Nd: Tensor
    group_N: Tensor

    def __len__(self) -> int:
        return len(self.group_N)

    def rows(self, row_n: Tensor) -> "Pairs":
        return Pairs(self.one_Nd[row_n], self.other_Nd[row_n], self.group_N[row_n])

    @property
    def hidden_NN(self) -> Tensor:
        """Which logits are between different pairs of one group."""
        alone_NN = torch.eye(len(self), dtype=torch.bool, device=self.group_N.device)
        return (self.group_N[:, None] == self.group_N) & ~alone_NN


Model = Callable[[Parameters, Pairs], tuple[Tensor, Tensor]]  # unit vectors of both sides


@dataclass(frozen=True)
class InnerStep:
    """The parameters after the step, the loss on the target with them, and its slope by each score."""

    parameters: dict[str, Tensor]
    loss: Tensor
    slope_N: Tensor


def inner_step(
    model: Model, parameters: Parameters, pairs: Pairs, score_N: Tensor, target: Pairs, rate: float, scale: float
) -> InnerStep:
    def loss_on_pairs(parameters: Parameters, score_N: Tensor) -> Tensor:
        return weighted_loss(*model(parameters, pairs), score_N, scale, pairs.hidden_NN)

    def loss_on_target(parameters: Parameters) -> Tensor:
        return plain_loss(*model(parameters, target), scale, target.hidden_NN)

    def slope_of_scores(parameters: Parameters) -> Tensor:
        slope_N: Tensor = torch.func.grad(loss_on_pairs, argnums=1)(parameters, score_N)
        return slope_N

    parameters, score_N = dict(parameters), score_N.detach()
    slopes = torch.func.grad(loss_on_pairs)(parameters, score_N)
    after = {name: value - rate * slopes[name] for name, value in parameters.items()}
    direction, loss = torch.func.grad_and_value(loss_on_target)(after)
    turn_N: Tensor = torch.func.jvp(slope_of_scores, (parameters,), (direction,))[1]
    return InnerStep(after, loss, -rate * turn_N)


def weighted_loss(one_Nd: Tensor, other_Nd: Tensor, score_N: Tensor, scale: float, hidden_NN: Tensor) -> Tensor:
    """The contrastive loss in which pair i has the weight w_i as an anchor, and as a negative of the others."""
    log_weight_N = score_N.log_softmax(dim=0)
    logits_NN = (scale * one_Nd @ other_Nd.T).masked_fill(hidden_NN, -torch.inf)
    lost_N = torch.zeros_like(log_weight_N)
    for toward_NN in (logits_NN, logits_NN.T):
        weighed_NN = toward_NN + log_weight_N
        lost_N = lost_N + weighed_NN.logsumexp(dim=1) - weighed_NN.diagonal()
    return (log_weight_N.exp() * lost_N).sum() / 2


def plain_loss(one_Nd: Tensor, other_Nd: Tensor, scale: float, hidden_NN: Tensor) -> Tensor:
    logits_NN = (scale * one_Nd @ other_Nd.T).masked_fill(hidden_NN, -torch.inf)
    own_N = torch.arange(len(logits_NN), device=logits_NN.device)
    return (cross_entropy(logits_NN, own_N) + cross_entropy(logits_NN.T, own_N)) / 2
