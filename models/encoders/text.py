"""The base of all text towers. Their input is token ids from their own tokenizer.

Shape letters: n rows, L tokens.
"""

import torch
from torch import Tensor

from tercet.data_pipelines.sample import TextIntake
from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoder
from tercet.models.tuning.positions import lengthened


class TextEncoder(Encoder):
    """A tower over tokens `[n, L]`.

    If the recipe sets its context length, weights of another length fit: their positions are cut or stretched.
    """

    modality = "text"
    intake: TextIntake

    def __init__(self, config: TowerConfig | None = None) -> None:
        super().__init__()
        self.kept = config.keep_positions if config and config.context_length else None

    def fit_positions(self, theirs: Tensor, places: int) -> Tensor | None:
        return None if self.kept is None else lengthened(theirs, places, self.kept)

    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The empty caption. A row of padding only would have no mean."""
        return self.intake.tokenize([""]).to(device), None


def longest_of(counts_n: Tensor, values_nL: Tensor) -> int:
    """How many tokens the longest text has, so that towers need not compute the padding after it.

    All tokens while a graph is exported, because the shapes in a graph must not depend on the values.
    """
    if torch.compiler.is_exporting():
        return values_nL.shape[1]
    return int(counts_n.max()) if len(counts_n) else 1
