"""Audio towers from Hugging Face: AST, Whisper's encoder, and the audio half of CLAP.

Each hears what its own feature extractor makes of a sound. AST, Whisper and CLAP look at a window of fixed length
whatever the clip's, so `seconds` may be as long as that and no longer; what fills the window after a clip is part of
what they were trained on, and the same whatever batch the clip stands in.

Shape letters: n rows, T audio samples, F frames, M mel bands, N tokens, D the tower's width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.models.config import TowerConfig
from tercet.models.encoders.hf.audio import HfAudio
from tercet.models.encoders.hf.folder import load, read_feature_extractor
from tercet.models.encoders.hf.front_ends import ClapLogMel, WhisperLogMel, ast_log_mel
from tercet.models.encoders.hf.parts import load_part, part_of, width_of


class AstAudio(HfAudio):
    """The mean of AST's two class tokens."""

    def __init__(self, name: str, config: TowerConfig, found: Any) -> None:
        extractor = read_feature_extractor(name)
        front_end = ast_log_mel(extractor)
        hop, window = front_end.spectrum.hop, front_end.spectrum.window
        super().__init__(name, config, front_end, ((extractor.max_length - 1) * hop + window) / front_end.rate)
        self.window, self.silence = extractor.max_length, -front_end.spectrum.mean / front_end.spectrum.std
        self.model = load("model.audio.encoder", name, "ASTModel", found)
        self.width = self.model.config.hidden_size

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """After its end, a clip goes on with what AST's extractor takes for silence: a logarithm of zero."""
        filled_nMF = functional.pad(log_mel, (0, self.window - log_mel.shape[2]))
        after_nF = torch.arange(self.window, device=log_mel.device) >= frames[:, None]
        filled_nMF = filled_nMF.masked_fill(after_nF[:, None], self.silence)
        vectors: Tensor = self.model(filled_nMF.transpose(1, 2)).pooler_output
        return vectors


class WhisperAudio(HfAudio):
    """The mean over the states that a clip covers, of the thirty seconds that Whisper always reads."""

    def __init__(self, name: str, config: TowerConfig, found: Any) -> None:
        extractor = read_feature_extractor(name)
        super().__init__(name, config, WhisperLogMel(extractor), extractor.chunk_length)
        found.encoder_layerdrop = 0.0  # it would leave layers without a gradient on one rank and not on another
        self.model = load("model.audio.encoder", name, "WhisperModel", found).get_encoder()
        self.width = found.d_model

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        states_nND = self.model(log_mel).last_hidden_state
        covered_n = torch.div(frames + 1, 2, rounding_mode="floor")
        valid_nN1 = (torch.arange(states_nND.shape[1], device=frames.device) < covered_n[:, None])[..., None]
        vectors: Tensor = (states_nND * valid_nN1).sum(1) / covered_n[:, None]
        return vectors


class ClapAudio(HfAudio):
    """CLAP's HTSAT (Chen et al. 2022), as far as its projection. Models with fusion hear a window without its summary
    of a longer clip, since longer clips are tiled here."""

    def __init__(self, name: str, config: TowerConfig, found: Any) -> None:
        extractor = read_feature_extractor(name)
        front_end = ClapLogMel(extractor)
        super().__init__(name, config, front_end, extractor.max_length_s)
        part = part_of("audio", found)
        assert part is not None
        self.model = load_part("model.audio.encoder", name, part, found)
        self.projects, self.vector = part.projects, part.vector
        self.width = width_of(self.model.config, part)
        self.spectrum = front_end.spectrum
        self.channels = 4 if self.model.config.enable_fusion else 1

    def stack(self) -> nn.Module:
        stack: nn.Module = self._swin().layers
        return stack

    def _swin(self) -> Any:
        return next(part for part in self.model.modules() if hasattr(part, "patch_embed"))

    def blocks(self) -> list[list[nn.Parameter]]:
        """By stage. The norm of the mel bands comes before them, though the model lists it after."""
        stem = {id(weight) for weight in self._swin().batch_norm.parameters()}
        return [[weight for weight in block if id(weight) not in stem] for block in super().blocks()]

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        decibels_nFM = (log_mel * self.spectrum.std + self.spectrum.mean).transpose(1, 2)
        features = decibels_nFM[:, None].expand(-1, self.channels, -1, -1)
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        vectors: Tensor = getattr(self.model(input_features=features, is_longer=longer), self.vector)
        return vectors
