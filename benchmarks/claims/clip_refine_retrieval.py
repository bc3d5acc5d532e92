"""What CLIP-Refine does to retrieval. The claim `clip_refine` explains the runs."""

from dataclasses import replace

from tercet.benchmarks.claims import clip_refine
from tercet.benchmarks.claims.experiment.strong import RECALL

CLAIM = replace(
    clip_refine.CLAIM,
    says="Tuned by CLIP-Refine, a model loses less than 2 points of R@1.",
    measure=RECALL,
    better="higher",
    gain=(-2, None),
)
