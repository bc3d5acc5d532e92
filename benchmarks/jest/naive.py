"""Joint selection as in the paper's pseudocode, with the logits of all pairs in memory: what the sampler is measured
against.

Shapes: N samples, k chosen ones, C chunks, d dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Seen = tuple[Tensor, Tensor, float]  # how a model sees the samples: the vectors of two fields, and its scale


class Logits(NamedTuple):
    """The logits of all pairs `[N, N]`, and those of the pairs that belong together."""

    all_NN: Tensor
    own_N: Tensor


def naive_selection(models: Sequence[Seen], kept: int, noise_NC: Tensor, gain: float) -> Tensor:
    """The places of the chosen samples, ascending. `models`: learner and reference. The loss is the softmax loss."""
    learner, reference = (_logits(*seen) for seen in models)
    chosen_N = torch.zeros(len(noise_NC), dtype=torch.bool, device=noise_NC.device)
    chunks = noise_NC.shape[1]
    score_N = reference.own_N - learner.own_N
    for chunk in range(chunks):
        if chunk:
            score_N = _loss(learner, chosen_N) - _loss(reference, chosen_N)
        preference_N = (gain * score_N + noise_NC[:, chunk]).masked_fill(chosen_N, -torch.inf)
        count = (chunk + 1) * kept // chunks - chunk * kept // chunks
        chosen_N[preference_N.topk(count).indices] = True
    return torch.nonzero(chosen_N).flatten()


def _logits(x_Nd: Tensor, y_Nd: Tensor, scale: float) -> Logits:
    all_NN = scale * x_Nd @ y_Nd.T
    return Logits(all_NN, all_NN.diagonal().double())


def _loss(logits: Logits, chosen_N: Tensor) -> Tensor:
    """The loss of each sample among itself and the chosen ones: the mean over both directions."""
    open_NN = chosen_N[None, :] | torch.eye(len(chosen_N), dtype=torch.bool, device=chosen_N.device)
    sums = [
        all_NN.masked_fill(~open_NN, -torch.inf).logsumexp(dim=1).double()
        for all_NN in (logits.all_NN, logits.all_NN.T)
    ]
    return torch.stack(sums).mean(dim=0) - logits.own_N
