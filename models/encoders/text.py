"""The base of all text towers. Their input is token ids from their own tokenizer."""

import torch
from torch import Tensor

from tercet.data_pipelines.sample import TextIntake
from tercet.models.encoders.encoder import Encoder


class TextEncoder(Encoder):
    """A tower over tokens `[n, L]`."""

    modality = "text"
    intake: TextIntake

    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The empty caption. A row of padding only would have no mean."""
        return self.intake.tokenize([""]).to(device), None
