"""The other side of the claim `clip_refine`: what a smaller gap costs in retrieval."""

from tercet.benchmarks.claims.clip_refine import CLAIM as GAP
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RECALL

CLAIM = Claim(
    says="CLIP-Refine closes the modality gap and loses less than 2 points of R@1.",
    source="Yamaguchi et al. 2025",
    measure=RECALL,
    arms=GAP.arms,
    gain=(-2, None),
    runs="clip_refine",
)
