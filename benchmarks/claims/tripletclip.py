"""TripletCLIP on a strong baseline: wrong captions, and pictures of them, which are trained as pairs of their own.

A step embeds two pictures and two captions of each sample, so it takes about twice as long as one of the baseline. The
claim `tripletclip_retrieval` is about the same runs.
"""

from typing import Any

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RUNS, SWAPPED, Strong
from tercet.benchmarks.claims.negclip import OBJECTIVE

TRIPLETCLIP: dict[str, Any] = {
    "fields": {
        "text.negative": {"from": "json.contrasts"},
        "image.negative": {"from": "file.negative", "paired": "text.negative"},
    },
    "terms": [
        {"between": ["image", "text"], "against": {"image": ["text.negative"]}, "objective": OBJECTIVE},
        {
            "name": "negative",
            "between": ["image.negative", "text.negative"],
            "against": {"image.negative": ["text"]},
            "objective": OBJECTIVE,
        },
    ],
}

CLAIM = Claim(
    says="On a strong baseline, wrong captions and pictures of them raise the accuracy on swapped attributes.",
    source="Patel et al. 2024",
    measure=SWAPPED,
    arms={"TripletCLIP": Strong(TRIPLETCLIP), "baseline": Strong()},
    runs=RUNS,
)
