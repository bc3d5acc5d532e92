"""What NegCLIP does to retrieval. The claim `negclip` explains the runs."""

from dataclasses import replace

from tercet.benchmarks.claims import negclip
from tercet.benchmarks.claims.experiment.strong import RECALL

CLAIM = replace(
    negclip.CLAIM,
    says="On a strong baseline, wrong captions as extra negatives cost less than 2 points of R@1.",
    measure=RECALL,
    gain=(-2, None),
)
