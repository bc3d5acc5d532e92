"""The features of CLAP (Wu et al. 2023): those of transformers' `ClapFeatureExtractor`, but batched and on the device.

Shape letters: n rows, T audio samples, S samples of the window, F frames of the window, G frames of a whole clip, M mel
bands.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tercet.models.audio_features import Spectrum, whole
from tercet.models.encoders.hf.front_ends import WindowLogMel

CHUNKS = 3  # parts of a long clip: of its front, middle and back
FRAMES_AT_ONCE, ROWS_AT_ONCE = 4096, 8  # fp64 takes much memory


class ClapLogMel(WindowLogMel):
    """The clip is repeated as often as it fits completely into the window; silence follows."""

    def __init__(self, extractor: Any) -> None:
        slaney = extractor.truncation != "fusion"  # models with fusion were trained with torchaudio's bands
        spectrum = Spectrum(
            rate=extractor.sampling_rate, hop=extractor.hop_length, window=extractor.fft_window_size,
            fft=extractor.fft_window_size, mels=extractor.feature_size, low=extractor.frequency_min,
            high=extractor.frequency_max, mean=-40.0, std=20.0, floor=1e-10, slaney=slaney, decibels=True,
        )  # fmt: skip
        super().__init__(spectrum, extractor.max_length_s * extractor.sampling_rate)

    def frames(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, self.samples // self.spectrum.hop + 1)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """In fp64, as transformers: in fp32, the quiet bands of a pure tone are off by up to 0.1 dB."""
        if torch.compiler.is_exporting():  # a graph cannot loop over its rows
            return self._exact(frames)
        return torch.cat([self._exact(part) for part in torch.split(frames, ROWS_AT_ONCE)])

    def _exact(self, frames: Tensor) -> Tensor:
        wanted = self.spectrum
        window_W = torch.hann_window(wanted.window, dtype=torch.float64, device=frames.device)
        waves = torch.view_as_real(torch.fft.rfft(frames * window_W, wanted.fft)).flatten(-2)
        energy = waves.square() @ self.filters_PM.double()
        return (10.0 * energy.clamp(min=wanted.floor).log10()).float()

    def _filled(self, wave_nT: Tensor, lengths: Tensor) -> Tensor:
        lengths_n1 = lengths.clamp(min=1)[:, None]
        place_S = torch.arange(self.samples, device=wave_nT.device)
        repeats_n1 = torch.div(torch.full_like(lengths_n1, self.samples), lengths_n1, rounding_mode="floor")
        repeated_nS = wave_nT.gather(1, place_S % lengths_n1)
        return repeated_nS.masked_fill(place_S >= repeats_n1 * lengths_n1, 0.0)


class ClapFusion(ClapLogMel):
    """Four log-mels `[n, 4, M, F]` of a clip: all of it, shrunk to the window, and parts of its front, middle and back.

    A clip that is no longer than the window has its own log-mel four times.
    """

    def frames(self, lengths: Tensor) -> Tensor:
        """Of whole clips, and at least those of the window."""
        return (torch.div(lengths, self.spectrum.hop, rounding_mode="floor") + 1).clamp(min=self._window_frames)

    @property
    def _window_frames(self) -> int:
        return self.samples // self.spectrum.hop + 1

    def forward(self, wave: Tensor, lengths: Tensor | None = None, draws: Tensor | None = None) -> Tensor:
        """`draws` `[n, 3]` from [0, 1): where each part begins in its third of the clip; default: in the middle."""
        lengths = whole(wave) if lengths is None else lengths
        if torch.compiler.is_exporting():
            return self._of_all_rows(wave, lengths)
        draws_n3 = lengths.new_full((len(wave), CHUNKS), 0.5, dtype=torch.float64) if draws is None else draws.double()
        short_n = lengths <= self.samples
        fused_n4MF = self.weights_W.new_empty(len(wave), 1 + CHUNKS, self.mels, self._window_frames)
        if short_n.any():
            fused_n4MF[short_n] = super().forward(wave[short_n], lengths[short_n])[:, None]
        for row in torch.nonzero(~short_n).flatten().tolist():
            fused_n4MF[row] = self._fused(wave[row, : int(lengths[row])], draws_n3[row])
        return fused_n4MF

    def _fused(self, wave_T: Tensor, draws_3: Tensor) -> Tensor:
        log_mel_GM = self._whole(wave_T)
        shrunk_FM = functional.interpolate(
            log_mel_GM[None, None], (self._window_frames, self.mels), mode="bilinear", align_corners=False
        )[0, 0]
        starts = chunk_starts(len(log_mel_GM) - self._window_frames + 1, draws_3.tolist())
        parts = [log_mel_GM[start : start + self._window_frames] for start in starts]
        return torch.stack([shrunk_FM, *parts]).transpose(1, 2)

    def _whole(self, wave_T: Tensor) -> Tensor:
        """The log-mel `[G, M]` of a clip of any length."""
        with torch.autocast(wave_T.device.type, enabled=False):
            frames_1GW = self._frame(wave_T.float()[None])
            log_mel_GM = torch.cat([self._log_mel(part)[0] for part in torch.split(frames_1GW, FRAMES_AT_ONCE, 1)])
        return (log_mel_GM - self.spectrum.mean) / self.spectrum.std

    def _of_all_rows(self, wave_nT: Tensor, lengths: Tensor) -> Tensor:
        """The same in the middle of each third, without a loop over rows, which a graph cannot have. Computes both what
        a long clip and what a short one would have for every row."""
        size, last_n1 = self._window_frames, lengths[:, None] - 1
        log_mel_nGM = (self._log_mel(self._mirrored(wave_nT, last_n1)) - self.spectrum.mean) / self.spectrum.std
        count_n1 = torch.div(last_n1 + 1, self.spectrum.hop, rounding_mode="floor") + 1
        place_F = torch.arange(size, device=wave_nT.device)

        def at(place_nF: Tensor) -> Tensor:
            within_nF = place_nF.clamp(0, log_mel_nGM.shape[1] - 1)
            return log_mel_nGM.gather(1, within_nF[..., None].expand(-1, -1, self.mels))

        exact_nF = ((place_F + 0.5) * (count_n1 / size) - 0.5).clamp(min=0)  # as `interpolate` does it
        before_nF = exact_nF.floor().long()
        share_nF1 = (exact_nF - before_nF)[..., None]
        shrunk_nFM = at(before_nF) * (1 - share_nF1) + at(torch.minimum(before_nF + 1, count_n1 - 1)) * share_nF1
        parts = [at(start_n1 + place_F) for start_n1 in middle_starts(count_n1 - size + 1)]
        long_n4MF = torch.stack([shrunk_nFM, *parts], 1).transpose(2, 3)
        short_nMF = super().forward(wave_nT, lengths)
        return torch.where((lengths > self.samples)[:, None, None, None], long_n4MF, short_nMF[:, None])

    def _mirrored(self, wave_nT: Tensor, last_n1: Tensor) -> Tensor:
        """The frames `[n, G, W]` of clips, each mirrored at its own end. Those after the end of a clip mean nothing."""
        total, half = wave_nT.shape[1], self.spectrum.fft // 2
        place_P = torch.arange(-half, total + half, device=wave_nT.device).abs()
        mirrored_nP = torch.minimum(place_P, 2 * last_n1 - place_P).clamp(0, total - 1)
        return wave_nT.float().gather(1, mirrored_nP).unfold(1, self.spectrum.fft, self.spectrum.hop)


def chunk_starts(count: int, draws: list[float]) -> list[int]:
    """Where the parts begin, of `count` places in three ranges of about equal size. An empty range has place 0."""
    sizes = [count // CHUNKS + (part < count % CHUNKS) for part in range(CHUNKS)]
    firsts = [sum(sizes[:part]) for part in range(CHUNKS)]
    return [first + int(draw * size) if size else 0 for first, size, draw in zip(firsts, sizes, draws, strict=True)]


def middle_starts(count_n1: Tensor) -> list[Tensor]:
    """`chunk_starts` in the middle of each range, for rows of any count."""
    third_n1 = torch.div(count_n1, CHUNKS, rounding_mode="floor")
    sizes = [third_n1 + (part < count_n1 % CHUNKS) for part in range(CHUNKS)]
    firsts = [sum(sizes[:part], torch.zeros_like(count_n1)) for part in range(CHUNKS)]
    return [
        torch.where(size_n1 > 0, first_n1 + torch.div(size_n1, 2, rounding_mode="floor"), 0)
        for first_n1, size_n1 in zip(firsts, sizes, strict=True)
    ]
