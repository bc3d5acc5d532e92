"""Log-mel front ends, by name. They run in fp32 under any autocast, and no frame of a clip depends on its padding.

`clap48k64` follows LAION-CLAP (Wu et al. 2023), `kaldi16k128` AST and ImageBind (Gong et al. 2021, Girdhar et al.
2023). One departure that padding asks for: clips are continued by silence, where LAION mirrors their end.

Shape letters: n rows, T audio samples, F frames, M mel bands.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance import kaldi
from torchaudio.transforms import MelSpectrogram

from tercet.configs.registry import Registry


class LogMel(nn.Module, ABC):
    """Waveforms `[n, T]` to normalised log-mel frames `[n, M, F]`; frames after a clip's end are zero."""

    def __init__(self, rate: int, hop: int, mels: int, mean: float, std: float) -> None:
        super().__init__()
        self.rate, self.hop, self.mels, self.mean, self.std = rate, hop, mels, mean, std

    @abstractmethod
    def frames(self, lengths: Tensor) -> Tensor:
        """How many frames clips of these lengths have."""

    @abstractmethod
    def _log_mel(self, wave: Tensor) -> Tensor:
        """`[n, T]` to `[n, M, F]`, before normalisation; at least as many frames as the longest clip has."""

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            lengths = torch.full((len(wave),), wave.shape[1], device=wave.device)
        with torch.autocast(wave.device.type, enabled=False):
            silent = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
            log_mel = self._log_mel(wave.float().masked_fill(silent, 0.0))
            frames = int(self.frames(torch.tensor(wave.shape[1])))
            after = torch.arange(frames, device=wave.device) >= self.frames(lengths)[:, None]
            return ((log_mel[..., :frames] - self.mean) / self.std).masked_fill(after[:, None], 0.0)


class StftLogMel(LogMel):
    """Frame i is centred on sample i · hop; power spectrum, triangular mel filters, logarithm."""

    def __init__(
        self, *, rate: int, hop: int, window: int, fft: int, mels: int, low: float, high: float,
        slaney: bool, decibels: bool, floor: float, mean: float, std: float,
    ) -> None:  # fmt: skip
        super().__init__(rate, hop, mels, mean, std)
        self.floor = floor
        self.unit = 10.0 / torch.tensor(10.0).log().item() if decibels else 1.0
        self.mel = MelSpectrogram(
            rate, n_fft=fft, win_length=window, hop_length=hop, f_min=low, f_max=high, n_mels=mels, pad_mode="constant",
            norm="slaney" if slaney else None, mel_scale="slaney" if slaney else "htk",
        )  # fmt: skip
        _keep_out_of_checkpoints(self)

    def frames(self, lengths: Tensor) -> Tensor:
        return ((lengths + self.hop - 1) // self.hop).clamp(min=1)

    def _log_mel(self, wave: Tensor) -> Tensor:
        energy: Tensor = self.mel(wave)
        return energy.clamp(min=self.floor).log() * self.unit


class KaldiLogMel(LogMel):
    """Kaldi's filter banks as AST takes them: 25 ms Hann windows every 10 ms that lie wholly inside the clip."""

    window_weights: Tensor
    filters: Tensor

    def __init__(self, *, rate: int, mels: int, mean: float, std: float) -> None:
        super().__init__(rate, rate // 100, mels, mean, std)
        self.window, self.fft = rate // 40, 1 << (rate // 40 - 1).bit_length()
        filters, _ = kaldi.get_mel_banks(mels, self.fft, float(rate), 20.0, 0.0, 100.0, -500.0, 1.0)
        hann = torch.hann_window(self.window, periodic=False)
        self.register_buffer("filters", functional.pad(filters, (0, 1)), persistent=False)
        self.register_buffer("window_weights", hann, persistent=False)

    def frames(self, lengths: Tensor) -> Tensor:
        return (1 + torch.div(lengths - self.window, self.hop, rounding_mode="floor")).clamp(min=1)

    def _log_mel(self, wave: Tensor) -> Tensor:
        wave = functional.pad(wave, (0, max(0, self.window - wave.shape[1])))
        frames = wave.unfold(1, self.window, self.hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window_weights, self.fft).abs().square()
        energy: Tensor = spectrum @ self.filters.T
        return energy.clamp(min=torch.finfo(torch.float32).eps).log().transpose(1, 2)


FRONT_ENDS: Registry[Callable[[], LogMel]] = Registry("log-mel front end")


def build_front_end(name: str) -> LogMel:
    return FRONT_ENDS.get(name)()


@FRONT_ENDS.register("clap48k64")
def _clap48k64() -> LogMel:
    """LAION-CLAP: 48 kHz, 1024/480, 64 Slaney bands from 50 Hz to 14 kHz, in dB; −40 ± 20 dB becomes 0 ± 1."""
    return StftLogMel(
        rate=48_000, hop=480, window=1024, fft=1024, mels=64, low=50.0, high=14_000.0,
        slaney=True, decibels=True, floor=1e-10, mean=-40.0, std=20.0,
    )  # fmt: skip


@FRONT_ENDS.register("ast16k128")
def _ast16k128() -> LogMel:
    """AST's resolution by a plain STFT: 16 kHz, 25/10 ms, 128 bands; zero-padded windows, so that no band is empty."""
    return StftLogMel(
        rate=16_000, hop=160, window=400, fft=1024, mels=128, low=20.0, high=8_000.0,
        slaney=False, decibels=False, floor=1e-7, mean=-4.268, std=9.138,
    )  # fmt: skip


@FRONT_ENDS.register("kaldi16k128")
def _kaldi16k128() -> LogMel:
    """ImageBind's and AST's own: Kaldi filter banks, 16 kHz, 25/10 ms, 128 bands."""
    return KaldiLogMel(rate=16_000, mels=128, mean=-4.268, std=9.138)


@FRONT_ENDS.register("small16k64")
def _small16k64() -> LogMel:
    """For small towers on a CPU: 16 kHz, 64/20 ms, 64 bands, 50 frames a second."""
    return StftLogMel(
        rate=16_000, hop=320, window=1024, fft=1024, mels=64, low=50.0, high=8_000.0,
        slaney=False, decibels=False, floor=1e-5, mean=-3.0, std=5.0,
    )  # fmt: skip


def _keep_out_of_checkpoints(front_end: nn.Module) -> None:
    """Filters and windows follow from the name: nothing of a front end is learnt."""
    for module in front_end.modules():
        module._non_persistent_buffers_set.update(module._buffers)
