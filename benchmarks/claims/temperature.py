"""A low fixed temperature spreads all vectors evenly, and so also moves samples of the same class apart.

The vectors learn to tell samples apart, without labels. Uniformity is lower if vectors spread more evenly; tolerance is
the mean cosine of two samples of a class. The claim `tolerance` is about the latter.

From 0.2 down to 0.07, uniformity hardly changes, and tolerance falls a little further.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import HIDDEN, Pairs, Towers, recall
from tercet.benchmarks.claims.experiment.training import fit
from tercet.eval.space import alignment, uniformity

CLASSES, CANDIDATES = 10, 1_000


@dataclass(frozen=True)
class Training:
    """InfoNCE with a fixed temperature. `details`: how much samples of a class differ."""

    temperature: float
    details: float = 0.7
    noise: float = 0.3
    batch_size: int = 128
    steps: int = 400
    lr: float = 2e-3

    def run(self, seed: int) -> dict[str, float]:
        pairs, towers = Pairs(seed, self.noise), Towers(seed)
        prototype_ch = torch.randn(CLASSES, HIDDEN, generator=pairs.random)

        def draw(n: int) -> tuple[Tensor, dict[str, Tensor]]:
            class_n = torch.randint(CLASSES, (n,), generator=pairs.random)
            details_nh = self.details * torch.randn(n, HIDDEN, generator=pairs.random)
            return class_n, pairs.of(prototype_ch[class_n] + details_nh)

        scale = 1 / self.temperature
        objective = {"name": "infonce", "scale": scale, "bounds": (scale, scale)}
        fit(towers, objective, lambda step: draw(self.batch_size)[1], self.steps, self.lr)
        class_n, seen = draw(CANDIDATES)
        with torch.no_grad():
            image_nd, text_nd = towers(seen).values()
        return {
            "uniformity": float(uniformity(image_nd)),
            "tolerance": tolerance(image_nd, class_n),
            "alignment": float(alignment(image_nd, text_nd)),
            "image→text R@1": recall(image_nd, text_nd),
        }


def tolerance(z_nd: Tensor, class_n: Tensor) -> float:
    same = (class_n[:, None] == class_n) & ~torch.eye(len(z_nd), dtype=torch.bool)
    return float((z_nd @ z_nd.T)[same].mean())


CLAIM = Claim(
    says="At a lower temperature, vectors spread more uniformly.",
    source="Wang & Liu 2021",
    measure="uniformity",
    arms={
        "low": Training(temperature=0.07),
        "high": Training(temperature=0.5),
        "middle": Training(temperature=0.2),
    },
    better="lower",
)
