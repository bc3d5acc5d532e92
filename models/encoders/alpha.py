"""A fourth channel of pictures that says where to look (Alpha-CLIP, Sun et al. 2024).

A convolution over the mask stands beside the one over the patches in RGB, and their outputs are added up:

    patch = conv(RGB) + conv_alpha((mask − 0.5) / 0.26)

Its filters are 0 at first, so that the first step gives the vectors of the RGB model to the bit. They are no part of
the weights of that model, which load as before.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.modality import ALPHA

MEAN, STD = 0.5, 0.26  # of masks, as in the code of the authors


class WithAlpha(nn.Conv2d):
    """Adds the convolution over the mask to that of the class after it."""

    alpha: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        patches: Tensor = super().forward(input[:, :3])
        return patches + functional.conv2d(input[:, 3:], self.alpha, None, self.stride, self.padding)


class AlphaConv(WithAlpha):
    """Beside a plain convolution."""


def widen(conv: nn.Conv2d, kind: type[WithAlpha]) -> None:
    """Makes a convolution over RGB one over RGB and a mask."""
    conv.__class__ = kind
    conv.register_parameter(ALPHA, nn.Parameter(torch.zeros(conv.out_channels, 1, *conv.kernel_size)))
