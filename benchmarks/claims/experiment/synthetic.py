"""Pairs of random vectors, small towers for them and retrieval: experiments of seconds.

Shapes: n pairs, h hidden numbers, d dimensions.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

FIELDS = ("image", "text")
HIDDEN, SEEN, WIDTH, DIM = 12, 64, 128, 32


class Pairs:
    """Two noisy views of a hidden vector. No pair comes twice."""

    def __init__(self, seed: int, noise: float = 0.5) -> None:
        self.random, self.noise = torch.Generator().manual_seed(seed), noise
        self.mixtures = {field: torch.randn(HIDDEN, SEEN, generator=self.random) for field in FIELDS}

    def draw(self, n: int) -> dict[str, Tensor]:
        return self.of(torch.randn(n, HIDDEN, generator=self.random))

    def of(self, hidden_nh: Tensor) -> dict[str, Tensor]:
        shape = len(hidden_nh), SEEN
        return {
            field: torch.tanh(hidden_nh @ mixture / 3) + self.noise * torch.randn(shape, generator=self.random)
            for field, mixture in self.mixtures.items()
        }


class Towers(nn.Module):
    """A network of two layers for each field. Equal seeds give equal weights."""

    def __init__(self, seed: int, dim: int = DIM) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.of = nn.ModuleDict(
                {field: nn.Sequential(nn.Linear(SEEN, WIDTH), nn.GELU(), nn.Linear(WIDTH, dim)) for field in FIELDS}
            )

    def forward(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {field: normalize(self.of[field](seen), dim=1) for field, seen in values.items()}


@torch.no_grad()
def recall(x_nd: Tensor, y_nd: Tensor) -> float:
    """R@1 of row i of x for row i of y, in percent."""
    return 100 * float(((x_nd @ y_nd.T).argmax(dim=1) == torch.arange(len(x_nd))).double().mean())
