"""What the graphs compute: one module for each modality, with the tensors of a batch as inputs and unit vectors out.

Shape letters: n rows, T audio samples, S samples of a window, w windows of a clip, D the tower's width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.data_pipelines.sample import AudioIntake, ImageIntake, TextIntake, channels_first
from tercet.errors import UserError
from tercet.models.multimodal import Multimodal

VECTORS = "vectors"  # the output
PIXELS, TOKENS, WAVE, LENGTHS, VALUES = "pixels", "tokens", "wave", "lengths", "values"  # the inputs
TEXTS = ("A photo of two dogs, and 3 naïve cafés!", "", "rain on a tin roof", "word " * 40, "a red boat", "Zug")


@dataclass(frozen=True)
class Graph:
    """A module to trace, the names of its inputs, the axes of each that may have any size, and rows to check it on.

    `expected` is what the model itself returns for such rows.
    """

    module: nn.Module
    expected: Callable[..., Tensor]
    inputs: tuple[str, ...]
    axes: tuple[dict[int, str], ...]
    probes: Sequence[tuple[Tensor, ...]]  # the first has several rows, and is traced


class Rows(nn.Module):
    """Rows of one shape: pictures as bytes, which the tower normalises, or tokens; or clips that the tower reads as a
    whole, with their lengths."""

    def __init__(self, model: Multimodal, modality: str) -> None:
        super().__init__()
        self.tower, self.head, self.modality = model.tower(modality), model.head, modality

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.head(self.modality, self.tower(values, lengths))
        return vectors


class Clips(nn.Module):
    """Clips of any length, as `embed_windows` covers them with windows.

    Every clip of a batch gets as many windows as the longest, because the shapes in a graph must not depend on the
    lengths. Those after the end of a clip have weight 0. A clip that is shorter than a window is padded to it.
    """

    def __init__(self, model: Multimodal, modality: str, window: int) -> None:
        super().__init__()
        self.tower, self.head, self.modality, self.window = model.tower(modality), model.head, modality, window

    def forward(self, wave: Tensor, lengths: Tensor) -> Tensor:
        rows, total = wave.shape
        count = (total + self.window - 1) // self.window
        place_w = torch.arange(count, device=wave.device) * self.window
        start_nw = torch.minimum(place_w, (lengths[:, None] - self.window).clamp(min=0))
        within_S = torch.arange(self.window, device=wave.device)
        padded_nT = functional.pad(wave, (0, count * self.window - total))
        windows = padded_nT.gather(1, (start_nw[..., None] + within_S).flatten(1)).reshape(-1, self.window)
        valid = (lengths[:, None] - start_nw).clamp(max=self.window).reshape(-1)
        vectors_nwD = self.tower(windows, valid).float().reshape(rows, count, -1)
        fresh_nw = (lengths[:, None] - place_w).clamp(min=0, max=self.window)
        weight_nw = fresh_nw / lengths[:, None].clamp(min=1)
        vectors: Tensor = self.head(self.modality, (vectors_nwD * weight_nw[..., None]).sum(1))
        return vectors


def graph_of(model: Multimodal, modality: str) -> Graph:
    """What is traced for this tower. Probes are drawn at random, always the same."""
    intake, draws = model.intakes[modality], torch.Generator().manual_seed(0)
    if isinstance(intake, AudioIntake):
        lengths = (round(intake.window * share) for share in (1.3, 0.4, 2.2))
        clips = [_clips(rows, length, draws) for rows, length in zip((3, 1, 3), lengths, strict=True)]
        axes = ({0: "n", 1: "samples"}, {0: "n"})
        module = Rows(model, modality) if intake.draws else Clips(model, modality, intake.window)
        return Graph(module, _embed(model, modality), (WAVE, LENGTHS), axes, clips)
    if intake.ragged:
        raise UserError("a graph needs inputs of one shape, or sounds")
    if isinstance(intake, TextIntake):
        tokens = intake.tokenize(list(TEXTS))
        return _of_rows(model, modality, TOKENS, [tokens[:3], tokens[3:4], tokens[3:]])
    if isinstance(intake, ImageIntake):
        pixels = [_pictures(rows, intake, draws) for rows in (3, 1, 3)]
        return _of_rows(model, modality, PIXELS, [channels_first(one, intake) for one in pixels])
    values = [torch.rand(rows, *intake.shape, generator=draws).to(getattr(torch, intake.dtype)) for rows in (3, 1, 3)]
    return _of_rows(model, modality, VALUES, values)


def _of_rows(model: Multimodal, modality: str, name: str, probes: Sequence[Tensor]) -> Graph:
    rows = [(one.contiguous(),) for one in probes]
    return Graph(Rows(model, modality), _embed(model, modality), (name,), ({0: "n"},), rows)


def _embed(model: Multimodal, modality: str) -> Callable[..., Tensor]:
    def expected(*inputs: Tensor) -> Tensor:
        vectors: Tensor = model.head(modality, model.tower(modality).embed(*inputs))
        return vectors

    return expected


def _pictures(rows: int, intake: ImageIntake, draws: torch.Generator) -> Tensor:
    """Bytes `[n, H, W, C]`: patches of colour with noise, as different as pictures are."""
    coarse = torch.rand(rows, intake.shape[2], 6, 6, generator=draws)
    smooth = functional.interpolate(coarse, intake.size, mode="bilinear")
    noisy = smooth + 0.1 * torch.rand(smooth.shape, generator=draws)
    return (noisy / 1.1 * 255).to(torch.uint8).permute(0, 2, 3, 1)


def _clips(rows: int, longest: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tones in noise, of unequal lengths."""
    lengths_n = torch.tensor([longest, longest // 3, longest // 2][:rows])
    pitch_n1 = 0.02 + 0.2 * torch.rand(rows, 1, generator=draws)
    tones = (pitch_n1 * torch.arange(longest)).sin() + 0.3 * torch.randn(rows, longest, generator=draws)
    return 0.3 * tones * (torch.arange(longest) < lengths_n[:, None]), lengths_n
