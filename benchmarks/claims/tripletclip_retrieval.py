"""What TripletCLIP does to retrieval. The claim `tripletclip` explains the runs."""

from dataclasses import replace

from tercet.benchmarks.claims import tripletclip
from tercet.benchmarks.claims.experiment.strong import RECALL

CLAIM = replace(
    tripletclip.CLAIM,
    says="On a strong baseline, wrong captions and pictures of them cost less than 2 points of R@1.",
    measure=RECALL,
    gain=(-2, None),
)
