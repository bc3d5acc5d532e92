"""CLIP-Adapter (Gao et al. 2021): a bottleneck corrects a tower's output f, r · W2 ReLU(W1 f) + (1 - r) · f.

W2 begins at zero, where the paper draws it at random: before the first step the output keeps its direction, and with
it every cosine.
"""

from torch import Tensor, nn
from torch.nn.functional import relu

from tercet.models.config import AdapterConfig


class Adapter(nn.Module):
    """Rows of a tower's width in, corrected rows out."""

    def __init__(self, width: int, config: AdapterConfig) -> None:
        super().__init__()
        self.ratio = config.ratio
        self.down = nn.Linear(width, max(width // config.reduction, 1), bias=False)
        self.up = nn.Linear(self.down.out_features, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, features: Tensor) -> Tensor:
        correction: Tensor = self.up(relu(self.down(features)))
        return self.ratio * correction + (1 - self.ratio) * features
