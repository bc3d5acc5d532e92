"""Small towers that learn on a CPU in minutes: convolutions or word embeddings, then one or two transformer blocks.

They have no BatchNorm, so a vector depends on its own row only. All have positions, because captions describe what is
left or right, and what comes first.

Shape letters: n rows, C channels, H height, W width, F frames, L tokens, D the tower's width.
"""

import math
import re
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.data_pipelines.sample import ImageIntake, TextIntake
from tercet.errors import UserError, did_you_mean
from tercet.models.config import TowerConfig
from tercet.models.encoder_names import check_small_name
from tercet.models.encoders.alpha import WithAlpha
from tercet.models.encoders.audio import AudioEncoder
from tercet.models.encoders.encoder import Encoded
from tercet.models.encoders.image import ImageEncoder
from tercet.models.encoders.text import TextEncoder, longest_of
from tercet.models.encoders.trunk import SmallTower, Trunk
from tercet.models.tuning.positions import resized

BUCKETS = 2048
SIZE = 64  # of pictures, in pixels
STRIDES = (2, 2, 1)


class SmallImage(SmallTower, ImageEncoder):
    """Four convolutions down to a sixteenth of the image's side, and one transformer block over the grid.

    The first has large filters and stride 4, the third has stride 1. This learns shapes in far fewer steps than four
    convolutions of stride 2.

    With `patch_dropout`, the block sees a part of the grid (FLIP, Li et al. 2023). The convolutions see the whole
    picture, so unlike in a ViT, a cell knows a little of those that are left out, and the convolutions save no time.
    """

    def __init__(self, config: TowerConfig, width: int = 128, depth: int = 1, heads: int = 4) -> None:
        size = config.size or SIZE
        super().__init__(ImageIntake((size, size)), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.width, self.patch_dropout = width, config.patch_dropout
        narrow, middle = 3 * width // 8, 3 * width // 4
        self.stem = nn.Sequential(
            _conv2d(3, narrow, side=7, stride=4),
            _conv2d(narrow, middle, side=3, stride=2),
            _conv2d(middle, middle, side=3, stride=1),
            _conv2d(middle, width, side=3, stride=2),
        )
        self.positions = nn.Parameter(torch.randn(math.ceil(size / 16) ** 2, width) * 0.02)
        self.trunk = Trunk(width, heads, depth)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.tokens(values).vectors

    @property
    def patch_convolution(self) -> tuple[nn.Conv2d, type[WithAlpha]]:
        first = next(iter(self.stem[0].children()))
        assert isinstance(first, StandardisedConv)
        return first, AlphaStandardisedConv

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        """Pictures may have any size. Positions are interpolated."""
        pixels = self.normalise(values).contiguous(memory_format=torch.channels_last)  # a quarter faster on a CPU
        cells = self.stem(pixels).flatten(2).transpose(1, 2)
        cells = cells + resized(self.positions, cells.shape[1])
        encoded: Encoded = self.trunk(some_of(cells, self.patch_dropout) if self.training else cells)
        return encoded


def some_of(cells_nLD: Tensor, dropped: float) -> Tensor:
    """The cells of each row that are left if a share is dropped at random, at least one; the same number in all rows.

    The draw is on the CPU, so that it is the same on every device.
    """
    kept = max(round(cells_nLD.shape[1] * (1 - dropped)), 1)
    if kept == cells_nLD.shape[1]:
        return cells_nLD
    chosen_nl = torch.rand(cells_nLD.shape[:2]).argsort(dim=1)[:, :kept].sort(dim=1).values.to(cells_nLD.device)
    return cells_nLD.gather(1, chosen_nl[..., None].expand(-1, -1, cells_nLD.shape[2]))


def _conv2d(before: int, after: int, side: int, stride: int) -> nn.Module:
    conv = StandardisedConv(before, after, side, stride, side // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(1, after), nn.GELU())


class StandardisedConv(nn.Conv2d):
    """Filters of zero mean and equal norm (Qiao et al. 2019).

    With a norm over each single image, they learn as fast as with BatchNorm, but without statistics of the batch.
    """

    def forward(self, input: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        norm = centred.square().sum((1, 2, 3), keepdim=True).sqrt()
        return functional.conv2d(input, centred / (norm + 1e-5), None, self.stride, self.padding)


class AlphaStandardisedConv(WithAlpha, StandardisedConv):
    """With a mask beside the pixels."""


class SmallAudio(SmallTower, AudioEncoder):
    """Three convolutions along time with the mel bands as channels, and one transformer block over the frames."""

    def __init__(self, config: TowerConfig, width: int = 128, depth: int = 1, heads: int = 4) -> None:
        super().__init__(config)
        self.width = width
        self.stem = nn.ModuleList([
            nn.Conv1d(before, width, 5, stride, padding=2)
            for before, stride in zip((self.front_end.mels, width, width), STRIDES, strict=True)
        ])  # fmt: skip
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.stem)
        self.trunk = Trunk(width, heads, depth)

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        return self.encode_tokens(log_mel, frames).vectors

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        x = log_mel
        for conv, norm, stride in zip(self.stem, self.norms, STRIDES, strict=True):
            x = functional.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
            frames = torch.div(frames + stride - 1, stride, rounding_mode="floor")
            valid = torch.arange(x.shape[2], device=x.device) < frames[:, None]
            x = x * valid[:, None]  # padding must not leak into the last frame of the next layer
        x = x.transpose(1, 2)
        encoded: Encoded = self.trunk(x + sinusoids(x.shape[1], self.width, x.device), valid)
        return encoded


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Positions for any length (Vaswani et al. 2017), `[L, D]`."""
    frequency = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), 1)


class WordTokenizer:
    """Hashes words and punctuation, so it needs no vocabulary. 0 is padding, 1 starts a text."""

    def __init__(self, context: int) -> None:
        self.context = context

    def __call__(self, texts: list[str]) -> Tensor:
        tokens = torch.zeros(len(texts), self.context, dtype=torch.int64)
        tokens[:, 0] = 1
        for row, text in enumerate(texts):
            words = re.findall(r"\w+|[^\w\s]", text.lower())[: self.context - 1]
            hashes = [2 + crc32(word.encode()) for word in words]
            tokens[row, 1 : 1 + len(words)] = torch.tensor(hashes, dtype=torch.int64)
        return tokens


class SmallText(SmallTower, TextEncoder):
    """Two transformer blocks over words.

    The embedding of a word is the sum of two rows of the table, which two parts of its hash choose (Serrà & Karatzoglou
    2017). Two words sometimes share one row, but practically never both.
    """

    def __init__(
        self, config: TowerConfig, width: int = 128, depth: int = 2, heads: int = 4, context: int = 32
    ) -> None:
        super().__init__(config)
        context = config.context_length or context
        self.width, self.intake = width, TextIntake(WordTokenizer(context))
        self.words = nn.Parameter(torch.randn(BUCKETS, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(context, width) * 0.02)
        self.trunk = Trunk(width, heads, depth)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.tokens(values).vectors

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        longest = longest_of((values != 0).sum(1), values)
        tokens = values[:, :longest]
        words = functional.embedding(tokens % BUCKETS, self.words)
        words = words + functional.embedding(tokens // BUCKETS % BUCKETS, self.words)
        encoded: Encoded = self.trunk(words + self.positions[:longest], tokens != 0)
        return encoded


def small_options(modality: str, name: str, config: TowerConfig) -> dict[str, int]:
    check_small_name(modality, name)
    where = f"model.{modality}"
    known = ("width", "depth", "heads", "context") if modality == "text" else ("width", "depth", "heads")
    options: dict[str, int] = {}
    for option, value in config.options.items():
        if option not in known:
            raise UserError(f"{where}.options: unknown option `{option}`; {did_you_mean(option, known)}")
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}.options.{option}: {value!r} is not a whole number above 0")
        options[option] = value
    return options
