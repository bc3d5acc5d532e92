"""Feature suppression: an easy factor hides a hard one, and a second stage within clusters finds it (MCL).

Both views of a sample show two factors: `easy`, one of many classes in large numbers, and `hard`, one of a few classes
in numbers below the noise. The easy factor tells most samples of a batch apart, so the first stage learns little of the
hard one. K-means groups the samples by the vectors of the first stage, and a fresh model learns from batches of one
cluster each, which the easy factor does not tell apart. The vectors of both stages, side by side, are the result. As in
the paper, a linear classifier on these says what they know of each factor.

In the arm `without`, the second stage has random batches: as many samples, as many dimensions, another seed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import FIELDS, SEEN, Towers
from tercet.benchmarks.claims.experiment.training import fit
from tercet.distributed import World
from tercet.eval.statistics.least_squares import accuracy
from tercet.training.prototypes.kmeans import KMeans, kmeans

EASY, HARD, SAMPLES = 32, 8, 4_096


class Views:
    """`samples` of both factors, and noisy views of them. `clear`: how much larger the easy factor is shown."""

    def __init__(self, seed: int, clear: float, noise: float) -> None:
        self.random, self.noise = torch.Generator().manual_seed(seed), noise
        self.easy_cv = clear * torch.randn(EASY, SEEN, generator=self.random)
        self.hard_cv = torch.randn(HARD, SEEN, generator=self.random)

    def factors(self, n: int) -> tuple[Tensor, Tensor]:
        easy_n, hard_n = (torch.randint(classes, (n,), generator=self.random) for classes in (EASY, HARD))
        return easy_n, hard_n

    def of(self, easy_n: Tensor, hard_n: Tensor) -> dict[str, Tensor]:
        shown_nv = self.easy_cv[easy_n] + self.hard_cv[hard_n]
        return {field: shown_nv + self.noise * torch.randn(shown_nv.shape, generator=self.random) for field in FIELDS}


@dataclass(frozen=True)
class Training:
    """Two stages of `steps` each. `clusters`: those of the batches of the second stage; 0: its batches are random."""

    clusters: int
    clear: float = 4.0
    noise: float = 2.5
    batch_size: int = 64
    steps: int = 200
    lr: float = 2e-3

    def run(self, seed: int) -> dict[str, float]:
        views = Views(seed, self.clear, self.noise)
        easy_n, hard_n = views.factors(SAMPLES)
        first, second = Towers(2 * seed), Towers(2 * seed + 1)

        def train(towers: Towers, label_n: Tensor) -> None:
            def draw(step: int) -> dict[str, Tensor]:
                one = label_n[torch.randint(SAMPLES, (1,), generator=views.random)]
                inside = torch.nonzero(label_n == one).flatten()
                chosen = inside[torch.randperm(len(inside), generator=views.random)[: self.batch_size]]
                return views.of(easy_n[chosen], hard_n[chosen])

            fit(towers, {"name": "infonce"}, draw, self.steps, self.lr)

        everywhere = torch.zeros(SAMPLES, dtype=torch.int64)
        train(first, everywhere)
        train(second, self.grouped(first, views.of(easy_n, hard_n)["image"], seed) if self.clusters else everywhere)
        return self.measured(first, second, views)

    def grouped(self, towers: Towers, image_nv: Tensor, seed: int) -> Tensor:
        """The cluster of each sample by its vector."""
        with torch.no_grad():
            z_nd = towers({"image": image_nv})["image"]
        return kmeans(z_nd, torch.arange(len(z_nd)), KMeans(self.clusters, seed=seed), World()).label_n

    def measured(self, first: Towers, second: Towers, views: Views) -> dict[str, float]:
        """The accuracy of a linear classifier, by least squares, on vectors of new samples."""
        known, new = views.factors(SAMPLES), views.factors(SAMPLES)
        with torch.no_grad():
            (known_1, known_2), (new_1, new_2) = (
                [towers({"image": views.of(*factors)["image"]})["image"] for towers in (first, second)]
                for factors in (known, new)
            )
        numbers = {}
        for place, factor in enumerate(("easy", "hard")):
            for name, one, other in (
                (f"{factor} factor", torch.cat([known_1, known_2], 1), torch.cat([new_1, new_2], 1)),
                (f"{factor} factor, first stage", known_1, new_1),
            ):
                numbers[name] = accuracy(one, known[place], other, new[place])
        return numbers


CLAIM = Claim(
    says="A second stage within the clusters of the first one decodes the factor that the first one suppressed.",
    source="Zhang et al. 2024",
    measure="hard factor",
    arms={"clusters": Training(clusters=32), "without": Training(clusters=0)},
)
