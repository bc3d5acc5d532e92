"""How the classes of an episode are learned from a few examples: each method scores every query for every class.

- `prototypes`: the cosine with the normalised mean of the examples of a class (Snell et al. 2017).
- `transport`: the same, after the prototypes moved to where the queries are, as BECLR does (Poulakakis-Daktylidis and
  Jamali-Rad 2024). A plan transports prototypes to queries at the least cost, here 1 − cosine relative to the largest,
  and each prototype becomes the mean of the queries that it is sent to, normalised, in one pass. The plan sees all
  queries at once, but not their classes. All prototypes send the same mass, so classes should have about as many
  queries each. The authors standardise the values of each vector before, and fit a logistic regression afterwards.
- `tip_adapter`: the logits of the prompts plus α Σ exp(−β (1 − cosine)) over the examples of a class (Tip-Adapter,
  Zhang et al. 2022, without training).
- `clip_adapter`: the logits of the prompts for α W₂ ReLU(W₁ f) + (1 − α) f in place of a vector f, normalised, where W₁
  has a quarter of the dimensions (CLIP-Adapter, Gao et al. 2021). The cross-entropy of the examples trains it, all at
  once, with Adam; the authors use batches.

The settings of the two adapters, α and β, come from `GRID`, or from the task. The authors of Tip-Adapter try 200 values
of β and 20 of α on the validation samples of a dataset; Treff-Adapter (Liang et al. 2023) has α = 1 and β = 5.5.

Shapes: Q queries, W classes of an episode, S examples of each, D dimensions.
"""

from collections.abc import Mapping
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.eval.ranking.ranking import TIE
from tercet.eval.transport import transport_plan

Method = Literal["prototypes", "transport", "tip_adapter", "clip_adapter"]
Setting = Mapping[str, float]

ITERATIONS = 50  # of the transport plan
SCALE = 100.0  # of the logits of prompts: the temperature at which CLIP ends
TILE = 256  # queries that meet all examples at a time
REDUCTION, STEPS, RATE = 4, 50, 1e-2  # of CLIP-Adapter
GRID: Mapping[Method, Mapping[str, tuple[float, ...]]] = {
    "prototypes": {},
    "transport": {},
    "tip_adapter": {"α": (0.0, 1.0, 3.0, 10.0, 30.0, 100.0), "β": (1.0, 3.0, 5.5, 10.0)},
    "clip_adapter": {"α": (0.0, 0.2, 0.4, 0.6, 0.8)},
}


class Shown(NamedTuple):
    """The vectors of an episode. `text_WD`: those of the prompts of its classes, for adapters."""

    example_WSD: Tensor
    query_QD: Tensor
    text_WD: Tensor | None

    def to(self, device: torch.device) -> "Shown":
        text_WD = None if self.text_WD is None else self.text_WD.to(device)
        return Shown(self.example_WSD.to(device), self.query_QD.to(device), text_WD)


def settings(method: Method, given: Mapping[str, tuple[float, ...]]) -> list[Setting]:
    """All settings of a method, the one closest to plain prompts first. `given`: values in place of those of `GRID`."""
    grid = {name: given.get(name) or values for name, values in GRID[method].items()}
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def scores(method: Method, shown: Shown, setting: Setting, entropy: float, steps: int = STEPS) -> Tensor:
    """The score of each query for each class `[Q, W]`. `entropy`: of the transport plan; `steps`: of CLIP-Adapter."""
    if method == "tip_adapter":
        return tip_adapter(shown, setting["α"], setting["β"])
    if method == "clip_adapter":
        return clip_adapter(shown, setting["α"], steps)
    prototype_WD = F.normalize(shown.example_WSD.mean(dim=1), dim=1)
    if method == "transport":
        prototype_WD = moved(prototype_WD, shown.query_QD, entropy)
    return shown.query_QD @ prototype_WD.T


def moved(prototype_WD: Tensor, query_QD: Tensor, entropy: float) -> Tensor:
    """Each prototype becomes the normalised mean of the queries that the transport plan sends it to."""
    cost_WQ = 1 - prototype_WD @ query_QD.T
    plan_WQ = transport_plan(cost_WQ / cost_WQ.max().clamp(min=TIE), entropy, ITERATIONS)
    return F.normalize(plan_WQ @ query_QD, dim=1)


def tip_adapter(shown: Shown, alpha: float, beta: float) -> Tensor:
    cached = [_cached(query_QD, shown.example_WSD, beta) for query_QD in torch.split(shown.query_QD, TILE)]
    return _prompted(shown.query_QD, shown) + alpha * torch.cat(cached)


def _cached(query_QD: Tensor, example_WSD: Tensor, beta: float) -> Tensor:
    cosine_QWS = torch.einsum("qd,wsd->qws", query_QD, example_WSD)
    return (-beta * (1 - cosine_QWS)).exp().sum(dim=2)


def clip_adapter(shown: Shown, alpha: float, steps: int = STEPS) -> Tensor:
    """The initial weights are the same in every episode."""
    if alpha == 0:
        return _prompted(shown.query_QD, shown)
    classes, shots, dim = shown.example_WSD.shape
    random, hidden = torch.Generator().manual_seed(0), max(dim // REDUCTION, 1)
    device = shown.query_QD.device
    down_Dh, up_hD = (
        (torch.randn(rows, columns, generator=random, dtype=torch.float64) / rows**0.5).to(device).requires_grad_()
        for rows, columns in ((dim, hidden), (hidden, dim))
    )

    def adapted(rows_nD: Tensor) -> Tensor:
        return F.normalize(alpha * (rows_nD @ down_Dh).relu() @ up_hD + (1 - alpha) * rows_nD, dim=1)

    optimizer = torch.optim.Adam([down_Dh, up_hD], lr=RATE)
    example_nD, class_n = shown.example_WSD.flatten(0, 1), torch.arange(classes, device=device).repeat_interleave(shots)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(_prompted(adapted(example_nD), shown), class_n).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        return _prompted(adapted(shown.query_QD), shown)


def _prompted(rows_nD: Tensor, shown: Shown) -> Tensor:
    """The logits of the prompts."""
    assert shown.text_WD is not None
    return SCALE * rows_nD @ shown.text_WD.T
