"""CLIP-Adapter (Gao et al. 2021): a bottleneck corrects the output f of a tower, r · W2 ReLU(W1 f) + (1 - r) · f.

W2 starts at zero; in the paper, it starts at random. So the adapter first keeps the direction of the output, and every
cosine.
"""

from torch import Tensor, nn
from torch.nn.functional import relu

from tercet.models.config import AdapterConfig


class Adapter(nn.Module):
    """Corrects the output rows of a tower."""

    def __init__(self, width: int, config: AdapterConfig) -> None:
        super().__init__()
        self.ratio = config.ratio
        self.down = nn.Linear(width, max(width // config.reduction, 1), bias=False)
        self.up = nn.Linear(self.down.out_features, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, features: Tensor) -> Tensor:
        correction: Tensor = self.up(relu(self.down(features)))
        return self.ratio * correction + (1 - self.ratio) * features
