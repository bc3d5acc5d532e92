"""The filter of false negatives (UniME) beside a high weight of hard negatives, on the data of `hard_negative_false`.

A key does not repel an anchor if its cosine is higher than that of the anchor's own key less 0.1. The threshold of the
paper, that cosine and 0.1 more, drops few copies here, because copies of a scene are not much more alike than pairs.
"""

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.hard_negative_false import HARD, PLAIN, Training

CLAIM = Claim(
    says="A filter of keys as similar as the own one repairs what a high weight of hard negatives does.",
    source="Gu et al. 2025",
    measure="image→text R@1",
    arms={
        "filtered": Training({**HARD, "margin": 0.1}),
        "hard": Training(HARD),
        "paper's margin": Training({**HARD, "margin": -0.1}),
        "plain": Training(PLAIN),
    },
)
