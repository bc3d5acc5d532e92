"""iSogCLR: a temperature of its own for each sample (Qiu et al. 2023).

The loss of an anchor i with n negatives j, h_ij = S_ij − S_ii, is robust to changes of the distribution of negatives:

    F_i(τ) = τ log 1/n Σ_j e^(h_ij/τ) + τρ

The temperature τ_i is learned too: low for anchors with few similar keys, such as rare ones, high for those with many.
The mean is over all samples, of which a batch has few, so each sample has an estimate u_i that moves from batch to
batch, and batches may be small. The gradient is that of Σ_j w_ij h_ij / n, where w_ij = e^(h_ij/τ_i) / u_i is a
constant. As in the authors' code, the loss is the sum of both directions.

A step updates the values of the samples in its batch (γ = `gamma`, η = `eta`, m = `momentum`):

    log u  ← log((1 − γ) u + γ 1/n Σ_j e^(h_ij/τ)),    at first the mean over the batch alone
    slope  ← m · slope + (1 − m) · clip(log u + ρ − Σ_j w_ij h_ij / (nτ), ±5)
    τ      ← clip(τ − η · slope, `temperatures`)

Where this differs from the authors' code: u is stored as its logarithm, so nothing overflows and no maximum is kept. A
sample's second visit moves its u in the first epoch as well. Keys of the anchor's own group do not count in the mean,
extra negatives do. An anchor that no key repels has no loss, and its values stay.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.statistics import Mean, Statistic
from tercet.models.term_config import TermConfig

CLIP = 5.0  # the largest slope of a temperature


@objective("isogclr")
class ISogCLR(Objective):
    """A contrastive loss with a temperature for each sample and field (iSogCLR, Qiu et al. 2023).

    A memory of the term keeps the temperatures. The defaults are those of the authors' code for CC3M.
    If ρ is log n or more, all temperatures fall to their lower limit: with 128 samples, try 2.
    """

    scale: Annotated[float, Field(description="fixed; each sample has its own temperature")] = 1.0
    bounds: Annotated[tuple[float, float], Field(description="fixed")] = (1.0, 1.0)
    tau: Annotated[float, Field(gt=0, description="each temperature at first")] = 0.01
    temperatures: Annotated[tuple[float, float], Field(description="limits of the temperatures")] = (0.005, 1.0)
    rho: Annotated[
        float, Field(ge=0, description="ρ, how robust the loss is: the higher, the lower the temperatures")
    ] = 6.0
    gamma: Annotated[
        float, Field(gt=0, le=1, description="γ, the share of the new batch in u; 1: each batch counts by itself")
    ] = 0.8
    eta: Annotated[float, Field(ge=0, description="η, the learning rate of the temperatures; 0: they stay")] = 0.03
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="m, the share of the earlier slope; the authors' code has 1 − m, `beta_u`")
    ] = 0.1

    @property
    def columns(self) -> Mapping[str, float]:
        return {"temperature": self.tau, "log_u": -math.inf, "slope": 0.0}

    def check(self, term: TermConfig) -> None:
        super().check(term)
        low, high = self.temperatures
        if not 0 < low <= self.tau <= high:
            raise UserError(
                f"terms.{term.name}.objective.tau {self.tau:g} is not within temperatures [{low:g}, {high:g}]; change "
                "one of them"
            )
        if self.bounds != (1.0, 1.0):
            raise UserError(
                f"terms.{term.name}.objective: `isogclr` learns a temperature for each sample and no other; remove "
                "`scale` and `bounds`"
            )

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        temperature_A1 = tile.anchors.extra["temperature"][:, None]
        return {"drawn": Mean(tile.logits, tile.others(tile.logits.detach() / temperature_A1))}

    def losses(self, anchors: Anchors) -> Tensor:
        mean_N, log_u_N = self._means(anchors)
        return 2 * (mean_N - log_u_N).exp() * (anchors["drawn"] - anchors.positive)

    def update(self, anchors: Anchors) -> dict[str, Tensor]:
        old, open_N = anchors.rows.extra, anchors.open
        anchors = anchors.without_infinities()
        mean_N, log_u_N = self._means(anchors)
        tau_N = old["temperature"]
        drawn_N = (mean_N - log_u_N).exp() * (anchors["drawn"] - anchors.positive)
        slope_N = (log_u_N + self.rho - drawn_N / tau_N).clamp(-CLIP, CLIP).lerp(old["slope"], self.momentum)
        new = {
            "temperature": (tau_N - self.eta * slope_N).clamp(*self.temperatures),
            "log_u": log_u_N,
            "slope": slope_N,
        }
        return {name: torch.where(open_N, value_N, old[name]) for name, value_N in new.items()}

    def probability(self, row: Anchors) -> Tensor:
        """At the anchor's own temperature."""
        return torch.sigmoid(row.positive / row.rows.extra["temperature"] - row["drawn.lse"])

    def _means(self, anchors: Anchors) -> tuple[Tensor, Tensor]:
        """The logarithms of the mean of e^(h/τ) over the batch, and of its estimate u. Constants."""
        extra, negatives_N = anchors.rows.extra, anchors.negatives.clamp(min=1)
        mean_N = (anchors["drawn.lse"] - anchors.positive / extra["temperature"] - negatives_N.log()).detach()
        if self.gamma == 1:
            return mean_N, mean_N
        moved_N = torch.logaddexp(math.log1p(-self.gamma) + extra["log_u"], math.log(self.gamma) + mean_N)
        return mean_N, torch.where(extra["log_u"] == -math.inf, mean_N, moved_N)
