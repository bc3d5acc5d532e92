"""What all text towers share: token ids of the tower's own tokenizer in."""

import torch
from torch import Tensor

from tercet.data_pipelines.sample import TextIntake
from tercet.models.encoders.encoder import Encoder


class TextEncoder(Encoder):
    """A tower over tokens `[n, L]`."""

    modality = "text"
    intake: TextIntake

    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The empty caption: a row of padding alone would have no mean."""
        return self.intake.tokenize([""]).to(device), None
