"""The base of all image towers. It normalises bytes in fp32 by the mean and deviation of the tower."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import ImageIntake
from tercet.errors import UserError
from tercet.models.encoders.alpha import MEAN, STD, WithAlpha, widen
from tercet.models.encoders.encoder import Encoder
from tercet.models.tuning.positions import stretch


class ImageEncoder(Encoder):
    """A tower over RGB bytes `[n, 3, H, W]`, or `[n, 4, H, W]` after `add_alpha`.

    Pictures of the intake's size are the usual input. A tower that can also takes other sizes, and interpolates its
    position embeddings to them; others raise an error. The weights keep the positions of the intake's size.
    """

    modality = "image"
    intake: ImageIntake
    mean: Tensor
    std: Tensor

    def __init__(self, intake: ImageIntake, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.intake = intake
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def patch(self) -> int | None:
        """The side of the square patches that the tower cuts pictures into, if it does."""
        return None

    def fit_positions(self, theirs: Tensor, places: int) -> Tensor | None:
        return stretch(theirs, places)

    @property
    def patch_convolution(self) -> tuple[nn.Conv2d, type[WithAlpha]]:
        """The convolution over the pixels, and what it becomes with a mask."""
        raise UserError(
            "model.image.alpha: this tower has no convolution over patches that a mask can be added to; use "
            "small:image, or a ViT of open_clip or timm"
        )

    def add_alpha(self) -> None:
        widen(*self.patch_convolution)
        self.intake = replace(self.intake, alpha=True)
        self.mean = torch.cat([self.mean, torch.full((1, 1, 1), MEAN)])
        self.std = torch.cat([self.std, torch.full((1, 1, 1), STD)])

    def normalise(self, values: Tensor) -> Tensor:
        return (values.float() / 255.0 - self.mean) / self.std
