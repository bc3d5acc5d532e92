"""Example inputs for a tower, made from its intake."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.data_pipelines.sample import ImageIntake, Intake, TextIntake
from tercet.models.encoders.encoder import Encoder

CAPTIONS = ["a red boat", "two dogs and a cat are asleep on the stairs", "rain", "a horn at night, far away", ""]
ROWS = len(CAPTIONS)


@dataclass(frozen=True)
class TowerInput:
    """The arguments of a tower. Ragged rows end at their lengths."""

    values: Tensor
    lengths: Tensor | None = None

    def one(self, index: int) -> "TowerInput":
        return TowerInput(self.values[[index]], None if self.lengths is None else self.lengths[[index]])

    def __call__(self, encoder: Encoder) -> Tensor:
        vectors: Tensor = encoder(self.values, self.lengths)
        return vectors


def rows_for(intake: Intake) -> TowerInput:
    """Rows of different content, and of different lengths where the intake allows that."""
    random = torch.Generator().manual_seed(0)
    if isinstance(intake, ImageIntake):
        return TowerInput(torch.randint(0, 256, (ROWS, 3, *intake.size), generator=random).to(torch.uint8))
    if isinstance(intake, TextIntake):
        return TowerInput(intake.tokenize(CAPTIONS))
    values = torch.randn(ROWS, *intake.shape, generator=random).to(getattr(torch, intake.dtype))
    if not intake.ragged:
        return TowerInput(values)
    longest = intake.shape[0]
    lengths = torch.tensor([longest - index * longest // (2 * ROWS) for index in range(ROWS)])
    for row, length in enumerate(lengths.tolist()):
        values[row, length:] = 0
    return TowerInput(values, lengths)
