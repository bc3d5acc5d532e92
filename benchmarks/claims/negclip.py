"""NegCLIP on a strong baseline: wrong captions are extra negatives of pictures. Its batches of neighbours are left out.

The claim `negclip_retrieval` is about the same runs.
"""

from typing import Any

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RUNS, SWAPPED, Strong

OBJECTIVE = {"name": "infonce", "scale": 20, "smoothing": 0.1}
FIELDS = {"text.negative": {"from": "json.contrasts", "rows": 3}}
TERM = {"between": ["image", "text"], "against": {"image": ["text.negative"]}, "objective": OBJECTIVE}
NEGCLIP: dict[str, Any] = {"fields": FIELDS, "terms": [TERM]}

CLAIM = Claim(
    says="On a strong baseline, wrong captions as extra negatives raise the accuracy on swapped attributes.",
    source="Yuksekgonul et al. 2023",
    measure=SWAPPED,
    arms={"NegCLIP": Strong(NEGCLIP), "baseline": Strong()},
    runs=RUNS,
)
