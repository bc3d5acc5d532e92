"""An arm that trains two towers on synthetic pairs, for claims in which arms differ by their objective."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tercet.benchmarks.claims.experiment.synthetic import DIM, Pairs, Towers, recall
from tercet.benchmarks.claims.experiment.training import fit

CANDIDATES = 1_000


@dataclass(frozen=True)
class PairTraining:
    """New pairs in every step. `objective`: its name and options. `dim`: of the joint space. `noise`: of
    the pairs."""

    objective: Mapping[str, Any]
    batch_size: int
    steps: int
    lr: float
    dim: int = DIM
    noise: float = 0.5

    def run(self, seed: int) -> dict[str, float]:
        pairs, towers = Pairs(seed, self.noise), Towers(seed, self.dim)
        fit(towers, self.objective, lambda step: pairs.draw(self.batch_size), self.steps, self.lr)
        with torch.no_grad():
            return self.measured(*towers(pairs.draw(CANDIDATES)).values())

    def measured(self, image_nd: Tensor, text_nd: Tensor) -> dict[str, float]:
        return {"image→text R@1": recall(image_nd, text_nd), "text→image R@1": recall(text_nd, image_nd)}
