"""Hard negatives hurt if some of them are matches that the data do not name. See also `hard_negative_filter`.

Each scene is in a batch twice, as pairs that count as matches of themselves only. Retrieval is tested on scenes
that differ. If all scenes of a batch differ (`distinct`), the same objective does no harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import HIDDEN, Pairs, Towers, recall
from tercet.benchmarks.claims.experiment.training import fit

CANDIDATES = 1_000


@dataclass(frozen=True)
class Training:
    """New scenes in every step. `copies`: pairs of each in a batch, which are false negatives of each other."""

    objective: Mapping[str, Any]
    copies: int = 2
    noise: float = 0.5
    batch_size: int = 128
    steps: int = 300
    lr: float = 2e-3

    def run(self, seed: int) -> dict[str, float]:
        pairs, towers = Pairs(seed, self.noise), Towers(seed)

        def draw(step: int) -> dict[str, Tensor]:
            scene_sh = torch.randn(self.batch_size // self.copies, HIDDEN, generator=pairs.random)
            return pairs.of(scene_sh.repeat(self.copies, 1))

        fit(towers, self.objective, draw, self.steps, self.lr)
        with torch.no_grad():
            image_nd, text_nd = towers(pairs.draw(CANDIDATES)).values()
        return {"image→text R@1": recall(image_nd, text_nd), "text→image R@1": recall(text_nd, image_nd)}


PLAIN: dict[str, Any] = {"name": "infonce"}
HARD: dict[str, Any] = {"name": "hard_negative", "beta": 2.0}

CLAIM = Claim(
    says="If pairs of the same scene repel each other, a high weight of hard negatives lowers R@1.",
    source="Radenovic et al. 2023",
    measure="image→text R@1",
    arms={
        "plain": Training(PLAIN),
        "hard": Training(HARD),
        "hard, distinct": Training(HARD, copies=1),
        "plain, distinct": Training(PLAIN, copies=1),
    },
)
