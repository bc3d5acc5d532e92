"""Log-mel front ends, by name. They run in fp32 under any autocast, and no frame of a clip depends on its padding.

`clap48k64` follows LAION-CLAP (Wu et al. 2023), `kaldi16k128` follows AST and ImageBind (Gong et al. 2021, Girdhar et
al. 2023). One departure: LAION mirrors the end of a clip, but here silence follows it. Otherwise frames would depend on
the padding.

Shape letters: n rows, T audio samples, F frames, W samples of a window, M mel bands, P real and imaginary parts of all
frequencies (interleaved), K masks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.configs.registry import Registry

PRE_EMPHASIS = 0.97
AT_ONCE = 2**20  # numbers of frames


@dataclass(frozen=True)
class Spectrum:
    """The parameters of a log-mel spectrogram. `mean` and `std` normalise the logarithms to about unit range."""

    rate: int
    hop: int
    window: int
    fft: int
    mels: int
    low: float
    high: float
    mean: float
    std: float
    floor: float
    slaney: bool = False  # librosa's scale with bands of equal area, instead of HTK's with bands of equal height
    decibels: bool = False


class LogMel(nn.Module):
    """Waveforms `[n, T]` to normalised log-mel frames `[n, M, F]`; frame i is centred on sample i · hop.

    Frames after the end of a clip are zero. Nothing here is learnt, so checkpoints contain none of it.
    """

    weights_W: Tensor
    filters_PM: Tensor

    def __init__(self, spectrum: Spectrum) -> None:
        super().__init__()
        self.spectrum = spectrum
        self.register_buffer("weights_W", self._window(), persistent=False)
        self.register_buffer("filters_PM", self._filters().repeat_interleave(2, 0), persistent=False)

    @property
    def rate(self) -> int:
        return self.spectrum.rate

    @property
    def mels(self) -> int:
        return self.spectrum.mels

    def frames(self, lengths: Tensor) -> Tensor:
        """The number of frames of clips with these lengths."""
        return _ceil_div(lengths, self.spectrum.hop).clamp(min=1)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        lengths = whole(wave) if lengths is None else lengths
        total = int(self.frames(torch.tensor(wave.shape[1])))
        with torch.autocast(wave.device.type, enabled=False):
            silent = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
            frames = self._frame(wave.float().masked_fill(silent, 0.0))[:, :total]
            log_mel = torch.cat([self._log_mel(part) for part in in_parts(frames)])
        after = torch.arange(total, device=wave.device) >= self.frames(lengths)[:, None]
        normalised = (log_mel - self.spectrum.mean) / self.spectrum.std
        return normalised.masked_fill(after[..., None], 0.0).transpose(1, 2)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """`[n, F, W]` to `[n, F, M]`."""
        wanted = self.spectrum
        energy: Tensor = self._fourier(frames * self.weights_W).square() @ self.filters_PM
        log_mel = energy.clamp(min=wanted.floor)
        return 10.0 * log_mel.log10() if wanted.decibels else log_mel.log()

    def _fourier(self, frames: Tensor) -> Tensor:
        """`[n, F, W]` to `[n, F, P]`. An exported graph has a product of matrices instead of the transform, because
        onnxruntime's transform has errors several hundred times as large."""
        size = self.spectrum.fft
        if not torch.compiler.is_exporting():
            return torch.view_as_real(torch.fft.rfft(frames, size)).flatten(-2)
        turns = np.outer(np.arange(frames.shape[-1]), np.arange(size // 2 + 1)) % size / size
        waves = np.exp(-2j * np.pi * turns).view(np.float64)
        return frames @ torch.from_numpy(waves.astype(np.float32))

    def _frame(self, wave: Tensor) -> Tensor:
        """`[n, T]` to `[n, F, W]`, with silence around the clip. Frames are as long as the FFT, which saves a copy."""
        half = self.spectrum.fft // 2
        return functional.pad(wave, (half, half)).unfold(1, self.spectrum.fft, self.spectrum.hop)

    def _window(self) -> Tensor:
        side = (self.spectrum.fft - self.spectrum.window) // 2
        return functional.pad(torch.hann_window(self.spectrum.window), (side, side))

    def _filters(self) -> Tensor:
        from torchaudio.functional import melscale_fbanks  # only a run with sounds loads torchaudio

        wanted = self.spectrum
        norm, scale = ("slaney", "slaney") if wanted.slaney else (None, "htk")
        bank: Tensor = melscale_fbanks(
            wanted.fft // 2 + 1, wanted.low, wanted.high, wanted.mels, wanted.rate, norm, scale
        )
        return bank


class KaldiLogMel(LogMel):
    """Kaldi's filter banks: all windows are inside the clip, without their mean and with pre-emphasis."""

    def frames(self, lengths: Tensor) -> Tensor:
        return _ceil_div(lengths - self.spectrum.window + 1, self.spectrum.hop).clamp(min=1)

    def _frame(self, wave: Tensor) -> Tensor:
        wave = functional.pad(wave, (0, max(0, self.spectrum.window - wave.shape[1])))
        frames = wave.unfold(1, self.spectrum.window, self.spectrum.hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
        return frames - PRE_EMPHASIS * before

    def _window(self) -> Tensor:
        return torch.hann_window(self.spectrum.window, periodic=False)

    def _filters(self) -> Tensor:
        from torchaudio.compliance.kaldi import get_mel_banks

        wanted = self.spectrum
        bank, _ = get_mel_banks(
            wanted.mels, wanted.fft, float(wanted.rate), wanted.low, wanted.high, 100.0, -500.0, 1.0
        )
        return functional.pad(bank, (0, 1)).T.contiguous()  # Kaldi ignores the highest frequency


FRONT_ENDS: Registry[Callable[[], LogMel]] = Registry("log-mel front end")


def build_front_end(name: str) -> LogMel:
    return FRONT_ENDS.get(name)()


@FRONT_ENDS.register("clap48k64")
def _clap48k64() -> LogMel:
    """LAION-CLAP: 48 kHz, 1024/480, 64 Slaney bands from 50 Hz to 14 kHz, in dB; −40 ± 20 dB becomes 0 ± 1."""
    return LogMel(Spectrum(
        rate=48_000, hop=480, window=1024, fft=1024, mels=64, low=50.0, high=14_000.0,
        mean=-40.0, std=20.0, floor=1e-10, slaney=True, decibels=True,
    ))  # fmt: skip


@FRONT_ENDS.register("ast16k128")
def _ast16k128() -> LogMel:
    """AST's resolution with a plain STFT: 16 kHz, 25/10 ms, 128 bands. Zero-padded windows leave no band empty."""
    return LogMel(Spectrum(
        rate=16_000, hop=160, window=400, fft=1024, mels=128, low=20.0, high=8_000.0,
        mean=-4.268, std=9.138, floor=1e-7,
    ))  # fmt: skip


@FRONT_ENDS.register("kaldi16k128")
def _kaldi16k128() -> LogMel:
    """The front end of ImageBind and AST: Kaldi filter banks, 16 kHz, 25/10 ms, 128 bands."""
    return KaldiLogMel(Spectrum(
        rate=16_000, hop=160, window=400, fft=512, mels=128, low=20.0, high=0.0,
        mean=-4.268, std=9.138, floor=torch.finfo(torch.float32).eps,
    ))  # fmt: skip


@FRONT_ENDS.register("small16k64")
def _small16k64() -> LogMel:
    """For small towers on a CPU: 16 kHz, 40/20 ms, 64 bands."""
    return LogMel(Spectrum(
        rate=16_000, hop=320, window=640, fft=640, mels=64, low=50.0, high=8_000.0,
        mean=-3.0, std=5.0, floor=1e-5,
    ))  # fmt: skip


def in_parts(frames: Tensor) -> Sequence[Tensor]:
    """The frames of a few clips at a time. On a CPU, they and their spectra then stay in its cache, which halves the
    time."""
    if frames.device.type != "cpu" or torch.compiler.is_exporting():
        return [frames]
    return torch.split(frames, max(1, AT_ONCE // frames.shape[1:].numel()))


def whole(wave: Tensor) -> Tensor:
    """The lengths `[n]` of clips that have no padding."""
    return torch.full((len(wave),), wave.shape[1], device=wave.device)


def covered(masks_nK4: Tensor, frames_n: Tensor, shape: torch.Size) -> Tensor:
    """`[n, M, F]`: the cells of a log-mel that SpecAugment masks hide (Park et al. 2019).

    A mask is a range of the mel bands and a range of the clip's own frames, both as fractions from 0 to 1. It hides the
    cells whose centres are inside. As in the paper, hidden cells get the mean of a normalised log-mel: zero.
    """
    mels, frames = shape
    band_M = (torch.arange(mels, device=masks_nK4.device) + 0.5) / mels
    frame_nF = (torch.arange(frames, device=masks_nK4.device) + 0.5) / frames_n[:, None]
    low, high, start, stop = masks_nK4[..., None].unbind(2)
    in_band_nKM = (low <= band_M) & (band_M < high)
    in_time_nKF = (start <= frame_nF[:, None]) & (frame_nF[:, None] < stop)
    return (in_band_nKM.float().transpose(1, 2) @ in_time_nKF.float()) > 0


def _ceil_div(count: Tensor, size: int) -> Tensor:
    return -(-count // size)
