"""Vectors that are trained to be cut can be cut: to the first eighth of their dimensions.

`cut` is R@1 of the first 8 of 64 dimensions, normalised anew. The claim `matryoshka_full` is about all 64.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.pair_training import PairTraining
from tercet.benchmarks.claims.experiment.synthetic import recall


@dataclass(frozen=True)
class Training(PairTraining):
    """`first`: how many dimensions a cut vector keeps."""

    dim: int = 64
    first: int = 8

    def measured(self, image_nd: Tensor, text_nd: Tensor) -> dict[str, float]:
        cut = (normalize(z_nd[:, : self.first], dim=1) for z_nd in (image_nd, text_nd))
        return {"cut": recall(*cut), "full": recall(image_nd, text_nd)}


CLAIM = Claim(
    says="Of vectors of 64 dimensions, the first 8 find more if Matryoshka trained them.",
    source="Kusupati et al. 2022",
    measure="cut",
    arms={
        "matryoshka": Training({"name": "matryoshka", "dims": (8, 16, 32, 64)}, batch_size=128, steps=300, lr=6e-3),
        "infonce": Training({"name": "infonce"}, batch_size=128, steps=300, lr=6e-3),
    },
)
