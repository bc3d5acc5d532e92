"""Audio towers: a log-mel front end and a tower over its frames. Evaluation covers clips of any length with windows.

Shape letters: n rows, T audio samples, F frames, M mel bands, D the tower's width, w windows of all clips together.
"""

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from tercet.data_pipelines.sample import AudioIntake
from tercet.models.audio_features import build_front_end, covered, whole
from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoded, Encoder

WINDOWS_AT_ONCE = 64


class FrontEnd(Protocol):
    """Turns waveforms `[n, T]` with their lengths into features `[n, M, F]`, the input of the tower."""

    @property
    def rate(self) -> int: ...

    @property
    def mels(self) -> int: ...

    def frames(self, lengths: Tensor) -> Tensor: ...

    def __call__(self, wave: Tensor, lengths: Tensor, /) -> Tensor: ...


class AudioEncoder(Encoder):
    """A tower over log-mel frames. The vector of a clip does not depend on the batch, the padding or the call."""

    modality = "audio"
    intake: AudioIntake

    def __init__(self, config: TowerConfig, front_end: FrontEnd | None = None) -> None:
        """Pass `front_end` if the weights were trained with their own. The default is that of the recipe."""
        super().__init__()
        self.front_end: FrontEnd = front_end or build_front_end(config.features)
        self.intake = AudioIntake(self.front_end.rate, config.seconds)

    @abstractmethod
    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """`[n, M, F]` to `[n, D]`. `frames` `[n]`: how many frames of each row are valid."""

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        """As `encode`, with the tokens in order of time."""
        raise self.lacks_tokens()

    def forward(self, values: Tensor, lengths: Tensor | None = None, masks: Tensor | None = None) -> Tensor:
        return self.encode(*self.features(values, lengths, masks))

    def tokens(self, values: Tensor, lengths: Tensor | None = None, masks: Tensor | None = None) -> Encoded:
        return self.encode_tokens(*self.features(values, lengths, masks))

    def features(self, values: Tensor, lengths: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """The input of `encode`. `masks` `[n, K, 4]` are those of SpecAugment; see `covered`."""
        lengths = whole(values) if lengths is None else lengths
        frames = self.front_end.frames(lengths)
        log_mel = self.front_end(values, lengths)
        if masks is not None:
            log_mel = log_mel.masked_fill(covered(masks, frames, log_mel.shape[1:]), 0.0)
        return log_mel, frames

    def embed(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return embed_windows(self, self.intake.window, values, lengths)


def embed_windows(tower: Encoder, window: int, values: Tensor, lengths: Tensor | None) -> Tensor:
    """The weighted mean of the vectors of windows that cover a clip, by clip.

    The last window ends with the clip. The weight of a window is the share of the clip that no earlier window covers.
    """
    lengths = whole(values) if lengths is None else lengths
    row, start, weight = tile(lengths, window)
    within = torch.arange(min(window, values.shape[1]), device=values.device)
    pooled = torch.zeros(len(values), tower.width, device=values.device)
    for some in torch.split(torch.arange(len(row), device=values.device), WINDOWS_AT_ONCE):
        windows = values[row[some, None], (start[some, None] + within).clamp(max=values.shape[1] - 1)]
        vectors = tower(windows, (lengths[row[some]] - start[some]).clamp(max=window))
        pooled = pooled.index_add(0, row[some], vectors.float() * weight[some, None])
    return pooled


def tile(lengths: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each window of each clip: the row of the clip, the first sample of the window, and its weight."""
    count = torch.div(lengths + window - 1, window, rounding_mode="floor").clamp(min=1)
    row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), count)
    first = (count.cumsum(0) - count)[row]
    place = torch.arange(len(row), device=lengths.device) - first
    length = lengths[row]
    start = torch.minimum(place * window, (length - window).clamp(min=0))
    fresh = torch.minimum(length - place * window, torch.full_like(length, window))
    return row, start, fresh / length.clamp(min=1)
