"""The task of both sides: to train the towers of one open_clip model on one synthetic batch in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

SIDE, LENGTH = 224, 77  # pixels, tokens
VOCABULARY, END = 49_000, 49_407  # END is the end token, where open_clip reads the vector of a text
LR, BETAS, EPS, DECAY, CLIP = 1e-4, (0.9, 0.98), 1e-6, 0.2, 1.0

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class StepCase:
    """A model and a batch. `options` are keyword arguments of `open_clip.create_model`; tests use smaller towers."""

    model: str
    batch: int
    precision: Precision
    device: torch.device
    tokens: int = LENGTH
    side: int = SIDE
    options: Mapping[str, Any] = field(default_factory=dict)

    def images(self) -> Tensor:
        """RGB bytes `[n, 3, H, W]` in channels-last memory format, as tercet's loader decodes them."""
        shape = (self.batch, self.side, self.side, 3)
        return torch.randint(0, 256, shape, generator=self._random()).to(torch.uint8).permute(0, 3, 1, 2)

    def texts(self) -> Tensor:
        """Texts of `tokens` tokens, padded with zeros to open_clip's context."""
        text_config = self.options.get("text_cfg", {})
        texts = torch.zeros(self.batch, text_config.get("context_length", LENGTH), dtype=torch.int64)
        texts[:, : self.tokens] = torch.randint(1, VOCABULARY, (self.batch, self.tokens), generator=self._random())
        texts[:, self.tokens - 1] = END
        return texts

    def sizes(self) -> dict[str, Any]:
        return {"model": self.model, "batch": self.batch, "tokens": self.tokens, "precision": self.precision}

    def _random(self) -> torch.Generator:
        return torch.Generator().manual_seed(0)
