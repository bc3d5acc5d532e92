"""CLAP's audio tower: HTSAT (Chen et al. 2022) with its projection.

A model with feature fusion (Wu et al. 2023) reads a clip that is longer than its window as a whole: a log-mel of all of
it, shrunk to the window, and one of a part of its front, middle and back. Where the parts begin is random in training.
In evaluation each begins in the middle of its range, so that a clip always has the same vector. Set `seconds` to more
than the window to fuse; with less, clips are cut and tiled as for any other tower.

Shape letters: n rows, T audio samples, F frames, M mel bands, D the tower's width.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tercet.models.audio_features import covered, whole
from tercet.models.config import TowerConfig
from tercet.models.encoders.audio import WINDOWS_AT_ONCE
from tercet.models.encoders.hf.audio import HfAudio
from tercet.models.encoders.hf.clap_features import CHUNKS, ClapFusion, ClapLogMel
from tercet.models.encoders.hf.folder import read_feature_extractor
from tercet.models.encoders.hf.parts import ModelPart, load_part, part_of, width_of


def clap_audio(name: str, config: TowerConfig, found: Any) -> "ClapAudio":
    """The tower from a folder or repository."""
    part = part_of("audio", found)
    assert part is not None
    model = load_part("model.audio.encoder", name, part, found)
    return ClapAudio(config, read_feature_extractor(name), model, part)


class ClapAudio(HfAudio):
    """Waveforms to vectors in CLAP's joint space."""

    def __init__(
        self, config: TowerConfig, extractor: Any, model: Any, part: ModelPart, options: tuple[str, ...] = ()
    ) -> None:
        can_fuse = model.config.enable_fusion
        self.fuses: bool = can_fuse and config.seconds > extractor.max_length_s
        front_end = ClapFusion(extractor) if self.fuses else ClapLogMel(extractor)
        super().__init__(config, front_end, None if can_fuse else extractor.max_length_s, options)
        self.intake = replace(self.intake, draws=CHUNKS if self.fuses else 0)
        self.model, self.projects, self.vector, self.extractor = model, part.projects, part.vector, extractor
        self.width = width_of(model.config, part)
        self.spectrum = front_end.spectrum
        self.channels = 1 + CHUNKS if can_fuse else 1

    def stack(self) -> nn.Module:
        stack: nn.Module = self._swin().layers
        return stack

    def _swin(self) -> Any:
        return next(part for part in self.model.modules() if hasattr(part, "patch_embed"))

    def blocks(self) -> list[list[nn.Parameter]]:
        """One block per stage. The norm of the mel bands is part of the stem, although the model lists it last."""
        stem = {id(weight) for weight in self._swin().batch_norm.parameters()}
        return [[weight for weight in block if id(weight) not in stem] for block in super().blocks()]

    def forward(
        self,
        values: Tensor,
        lengths: Tensor | None = None,
        masks: Tensor | None = None,
        draws: Tensor | None = None,
    ) -> Tensor:
        """`draws` `[n, 3]` from [0, 1): where the parts of a clip that is fused begin."""
        if not self.fuses:
            return super().forward(values, lengths, masks)
        return self.encode(*self._fused_features(values, lengths, masks, draws))

    def _fused_features(
        self, values: Tensor, lengths: Tensor | None, masks: Tensor | None, draws: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`[n, 4, M, F]`, and how many frames the whole clips have. A mask hides the same share of all four."""
        assert isinstance(self.front_end, ClapFusion)
        lengths = whole(values) if lengths is None else lengths
        log_mel_n4MF = self.front_end(values, lengths, draws)
        if masks is not None:
            frames_n = torch.full_like(lengths, log_mel_n4MF.shape[-1])
            hidden_nMF = covered(masks, frames_n, log_mel_n4MF.shape[2:])
            log_mel_n4MF = log_mel_n4MF.masked_fill(hidden_nMF[:, None], 0.0)
        return log_mel_n4MF, self.front_end.frames(lengths)

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        decibels = (log_mel * self.spectrum.std + self.spectrum.mean).transpose(-1, -2)
        features_nCFM = decibels if self.fuses else decibels[:, None].expand(-1, self.channels, -1, -1)
        longer_n = frames > features_nCFM.shape[2] if self.fuses else torch.zeros_like(frames, dtype=torch.bool)
        if self.fuses and self.training and not longer_n.any():
            return self._with_a_dummy(features_nCFM, longer_n)[:-1]
        return self._vectors(features_nCFM, longer_n)

    def _with_a_dummy(self, features_nCFM: Tensor, longer_n: Tensor) -> Tensor:
        """The fusion has a gradient on every rank, also on one without long clips: that of a row more, which is 0."""
        features_nCFM = torch.cat([features_nCFM, torch.zeros_like(features_nCFM[:1])])
        return self._vectors(features_nCFM, torch.cat([longer_n, torch.ones_like(longer_n[:1])]))

    def _vectors(self, features_nCFM: Tensor, longer_n: Tensor) -> Tensor:
        exports = torch.compiler.is_exporting() and self.channels > 1
        longer = longer_n if self.fuses else None
        with fusing_all_rows(self._swin().patch_embed, longer) if exports else nullcontext():
            output = self.model(input_features=features_nCFM, is_longer=longer_n[:, None])
        vectors: Tensor = getattr(output, self.vector)
        return vectors

    def embed(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """With fusion, of whole clips, however long they are."""
        if not self.fuses:
            return super().embed(values, lengths)
        lengths = whole(values) if lengths is None else lengths
        parts = torch.split(torch.arange(len(values), device=values.device), WINDOWS_AT_ONCE)
        return torch.cat([self(values[part], lengths[part]) for part in parts])


@contextmanager
def fusing_all_rows(patches: Any, longer_n: Tensor | None) -> Iterator[None]:
    """Within it, the patches of all rows are computed both ways, and each row keeps its own: transformers fuses only
    some rows, and a graph cannot depend on how many. None: no row is fused."""
    fuse = patches.forward

    def both(states: Tensor, _: Tensor) -> Tensor:
        rows_n = torch.arange(len(states), device=states.device)
        alone: Tensor = fuse(states, rows_n[:0])
        return alone if longer_n is None else torch.where(longer_n[:, None, None], fuse(states, rows_n), alone)

    patches.forward = both
    try:
        yield
    finally:
        del patches.forward
