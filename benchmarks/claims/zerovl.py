"""ZeroVL's single-source batches: what does a model learn about the source of a sample?

Each of two sources shifts its pictures and its texts by a constant of its own, as web sites differ in style. In a mixed
batch, half of the negatives can be told apart by the source alone. In batches of one source, they cannot.

`source accuracy` is that of a linear classifier (ridge regression) on the vectors of pictures, fitted to some pairs and
tested on others, in percent; chance is 50. `R@1` is that among pairs of one source, the mean over both directions and
sources. The shift was chosen on another seed, of two that were tried.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import FIELDS, SEEN, Pairs, Towers, recall
from tercet.benchmarks.claims.experiment.training import fit
from tercet.eval.statistics.least_squares import accuracy

ACCURACY = "source accuracy"
FITTED, CANDIDATES = 2_000, 1_000


class Sources:
    """Pairs of two sources."""

    def __init__(self, seed: int, shift: float) -> None:
        self.pairs = Pairs(seed)
        random = torch.Generator().manual_seed(seed + 1)
        self.shift = {field: shift * torch.randn(2, SEEN, generator=random) for field in FIELDS}

    def draw(self, source_n: Tensor) -> dict[str, Tensor]:
        return {name: rows + self.shift[name][source_n] for name, rows in self.pairs.draw(len(source_n)).items()}


@dataclass(frozen=True)
class Training:
    """`single`: each batch comes from one source, drawn by the sizes of the sources, which are equal."""

    single: bool
    shift: float = 0.3
    batch_size: int = 64
    steps: int = 400
    lr: float = 6e-3

    def run(self, seed: int) -> dict[str, float]:
        data, towers = Sources(seed, self.shift), Towers(seed)
        coins = torch.Generator().manual_seed(seed + 2)

        def draw(step: int) -> dict[str, Tensor]:
            count = 1 if self.single else self.batch_size
            return data.draw(torch.randint(2, (count,), generator=coins).expand(self.batch_size))

        fit(towers, {"name": "infonce"}, draw, self.steps, self.lr)
        with torch.no_grad():
            known_n, new_n = (torch.arange(count) % 2 for count in (FITTED, CANDIDATES))
            known_nd, new_nd = (towers(data.draw(source_n))["image"] for source_n in (known_n, new_n))
            found = [towers(data.draw(torch.full((CANDIDATES,), source))) for source in (0, 1)]
        both = [recall(*one.values()) for one in found] + [recall(*reversed(one.values())) for one in found]
        return {ACCURACY: accuracy(known_nd, known_n, new_nd, new_n, ridge=1.0), "R@1": sum(both) / len(both)}


CLAIM = Claim(
    says="Batches of a single source lower the accuracy of a linear classifier of the source.",
    source="Cui et al. 2022",
    measure=ACCURACY,
    arms={"single source": Training(single=True), "mixed": Training(single=False)},
    better="lower",
)
