"""The update of Dynamic Gradient Alignment (Fan, Grangier and Ablin, 2024): mirror descent on the weights of sources.

It departs from the paper in the floor, and in the alignment, which may be the cosine of two gradients.

Shape letters: K sources, P numbers of a gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.training.source_weights.config import SourceWeightsConfig

DIGITS = 6  # of a weight, so that rounding errors of another number of processes do not make another plan


def alignments(source_KP: Tensor, target_P: Tensor, config: SourceWeightsConfig) -> Tensor:
    """How well the gradient of each source agrees with that of the target."""
    source_KP, target_P = source_KP.double(), target_P.double()
    if config.normalize:
        source_KP, target_P = normalize(source_KP, dim=1), normalize(target_P, dim=0)
    return source_KP @ target_P


def updated(weight_K: Tensor, alignment_K: Tensor, config: SourceWeightsConfig) -> Tensor:
    """The new weights, or the old ones if a gradient is not finite."""
    old_K = weight_K.double() / weight_K.double().sum()
    if not torch.isfinite(alignment_K).all():
        return old_K
    new_K = torch.softmax(old_K.log() + config.rate * alignment_K.double(), dim=0)
    mixed_K = (1 - len(new_K) * config.floor) * new_K + config.floor
    return old_K.lerp(mixed_K, 1 - config.decay).round(decimals=DIGITS)
