"""How a metric is read: as a share in per cent or as a plain number, and whether more of it is better."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scale:
    """`better`: which of two values is the better one; None if neither is."""

    per_cent: bool = True
    better: Literal["higher", "lower"] | None = "higher"


SHARE, RANK, NUMBER = Scale(), Scale(False, "lower"), Scale(False, None)

SCALES = {  # of metrics that are neither shares nor ranks
    "alignment": NUMBER,
    "uniformity": NUMBER,
    "effective rank": NUMBER,
    "modality gap": NUMBER,
    "separability": Scale(better=None),
    "near-duplicates": Scale(better=None),
    "hubness": NUMBER,
    "largest hub": Scale(better=None),
    "calibration error": Scale(better="lower"),
    "Brier score": Scale(False, "lower"),
    "log loss": Scale(False, "lower"),
}


def scale_of(metric: str) -> Scale:
    """Of a metric by its name. Metrics that end in `rank` or `rank variance` are made of ranks, and all others are
    shares unless listed here."""
    return SCALES.get(metric, RANK if metric.endswith(("rank", "rank variance")) else SHARE)
