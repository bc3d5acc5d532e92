"""Three fields of which no two say anything about each other: z = x xor y, bit by bit.

Symile compares all three at once, so it learns to find x by y and z. InfoNCE on each pair of fields stays at chance,
which is 1 of 32; on other seeds it did so at three times the learning rate and with twice the steps as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.training import fit

FIELDS = ("x", "y", "z")
TESTS = 2_000


class Linear(nn.Module):
    """A linear tower with a bias for each field."""

    def __init__(self, seed: int, bits: int, dim: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.of = nn.ModuleDict({field: nn.Linear(bits, dim) for field in FIELDS})

    def forward(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {field: normalize(self.of[field](bits_nb), dim=1) for field, bits_nb in values.items()}


@dataclass(frozen=True)
class Xor:
    """`together`: the score of x, y and z is that of Symile, Σ_d x_d y_d z_d, else x·y + x·z + y·z."""

    objective: Mapping[str, Any]
    together: bool
    bits: int = 5
    dim: int = 16
    batch_size: int = 64
    steps: int = 300
    lr: float = 1e-2

    def run(self, seed: int) -> dict[str, float]:
        random, towers = torch.Generator().manual_seed(seed), Linear(seed, self.bits, self.dim)

        def draw(n: int) -> dict[str, Tensor]:
            x_nb, y_nb = torch.randint(2, (2, n, self.bits), generator=random)
            return {"x": x_nb.float(), "y": y_nb.float(), "z": (x_nb ^ y_nb).float()}

        fit(towers, self.objective, lambda step: draw(self.batch_size), self.steps, self.lr)
        with torch.no_grad():
            return {"accuracy": self.accuracy(towers, draw(TESTS))}

    def accuracy(self, towers: Linear, values: Mapping[str, Tensor]) -> float:
        """How often the right x among all 2^bits fits y and z best, in percent."""
        every_cb = torch.tensor(list(product((0.0, 1.0), repeat=self.bits)))
        x_cd = towers({"x": every_cb})["x"]
        vectors = towers(values)
        y_nd, z_nd = vectors["y"], vectors["z"]
        key_nd = y_nd * z_nd if self.together else y_nd + z_nd
        found_nb = every_cb[(key_nd @ x_cd.T).argmax(dim=1)]
        return 100 * float((found_nb == values["x"]).all(dim=1).double().mean())


CLAIM = Claim(
    says="Symile finds x by y and z = x xor y, where InfoNCE on all pairs does not.",
    source="Saporta et al. 2024",
    measure="accuracy",
    arms={
        "symile": Xor({"name": "symile"}, together=True),
        "pairs": Xor({"name": "infonce"}, together=False),
    },
)
