"""The features of audio models from Hugging Face: those of its feature extractors, but batched and on the device.

AST uses the filter banks of Kaldi (Gong et al. 2021). Whisper (Radford et al. 2022) uses the log-mel of a window of
fixed length, mirrored at both ends. A shorter clip is first filled with silence, so the padding of the batch has no
effect. HuBERT and wav2vec 2.0 read the waveform (Hsu et al. 2021, Baevski et al. 2020). `clap_features.py` has those of
CLAP.

Shape letters: n rows, T audio samples, S samples of the whole window, F frames, M mel bands, W samples of a frame.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.models.audio_features import KaldiLogMel, LogMel, Spectrum, whole

RANGE = 2.0  # Whisper clips at 8 powers of ten below the loudest cell; one unit here is 4 powers


def ast_log_mel(extractor: Any) -> KaldiLogMel:
    """Kaldi's filter banks: windows of 25 ms, 100 frames per second."""
    rate: int = extractor.sampling_rate
    window = rate // 40
    mean, std = (extractor.mean, 2 * extractor.std) if extractor.do_normalize else (0.0, 1.0)
    return KaldiLogMel(Spectrum(
        rate=rate, hop=rate // 100, window=window, fft=1 << (window - 1).bit_length(), mels=extractor.num_mel_bins,
        low=20.0, high=0.0, mean=mean, std=std, floor=torch.finfo(torch.float32).eps,
    ))  # fmt: skip


class WindowLogMel(LogMel):
    """Log-mels in decibels of a window of fixed length, however long the clip is."""

    def __init__(self, spectrum: Spectrum, samples: int) -> None:
        super().__init__(spectrum)
        self.samples = samples

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        lengths = whole(wave) if lengths is None else lengths
        with torch.autocast(wave.device.type, enabled=False):
            log_mel_nFM = self._log_mel(self._frame(self._filled(wave.float(), lengths)))
        return ((log_mel_nFM - self.spectrum.mean) / self.spectrum.std).transpose(1, 2)

    @abstractmethod
    def _filled(self, wave_nT: Tensor, lengths: Tensor) -> Tensor:
        """`[n, S]`: the clip, extended to the length of the window."""

    def _frame(self, wave: Tensor) -> Tensor:
        half = self.spectrum.fft // 2
        return functional.pad(wave, (half, half), mode="reflect").unfold(1, self.spectrum.fft, self.spectrum.hop)


class WhisperLogMel(WindowLogMel):
    """Silence follows the clip. Cells are at least 1e-8 of the loudest one."""

    def __init__(self, extractor: Any) -> None:
        spectrum = Spectrum(
            rate=extractor.sampling_rate, hop=extractor.hop_length, window=extractor.n_fft, fft=extractor.n_fft,
            mels=extractor.feature_size, low=0.0, high=8_000.0, mean=-40.0, std=40.0, floor=1e-10,
            slaney=True, decibels=True,
        )  # fmt: skip
        super().__init__(spectrum, extractor.chunk_length * extractor.sampling_rate)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        log_mel = super().forward(wave, lengths)[..., :-1]
        return log_mel.maximum(log_mel.amax((1, 2), keepdim=True) - RANGE)

    def _filled(self, wave_nT: Tensor, lengths: Tensor) -> Tensor:
        silent = torch.arange(wave_nT.shape[1], device=wave_nT.device) >= lengths[:, None]
        return functional.pad(wave_nT.masked_fill(silent, 0.0), (0, self.samples - wave_nT.shape[1]))


class Waveform(nn.Module):
    """`[n, T]` to `[n, 1, T]`. Clips get mean 0 and deviation 1 if the weights were trained so."""

    mels = 1

    def __init__(self, extractor: Any, shortest: int) -> None:
        super().__init__()
        self.rate: int = extractor.sampling_rate
        self.normalises: bool = extractor.do_normalize
        self.shortest = shortest

    def frames(self, lengths: Tensor) -> Tensor:
        """The number of samples, but at least one frame of the model."""
        return lengths.clamp(min=self.shortest)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        lengths = whole(wave) if lengths is None else lengths
        silent_nT = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
        wave = wave.float().masked_fill(silent_nT, 0.0)
        if self.normalises:
            wave = normalised(wave, silent_nT, lengths)
        return functional.pad(wave, (0, max(0, self.shortest - wave.shape[1])))[:, None]


def normalised(wave_nT: Tensor, silent_nT: Tensor, lengths: Tensor) -> Tensor:
    count_n1 = lengths.clamp(min=1)[:, None]
    centred_nT = (wave_nT - wave_nT.sum(1, keepdim=True) / count_n1).masked_fill(silent_nT, 0.0)
    return centred_nT / (centred_nT.square().sum(1, keepdim=True) / count_n1 + 1e-7).sqrt()
