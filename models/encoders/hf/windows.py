"""Audio towers from Hugging Face that read a window of fixed length: AST, and Whisper's encoder.

Each gets the same features as from its own feature extractor. `seconds` must not exceed the window. After a clip, the
window is filled as in training, so the batch has no effect.

Shape letters: n rows, T audio samples, F frames, M mel bands, N tokens, D the tower's width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoded
from tercet.models.encoders.hf.audio import HfAudio
from tercet.models.encoders.hf.folder import load, read_feature_extractor
from tercet.models.encoders.hf.front_ends import WhisperLogMel, ast_log_mel


class AstAudio(HfAudio):
    """The mean of AST's two class tokens."""

    def __init__(self, name: str, config: TowerConfig, found: Any) -> None:
        extractor = read_feature_extractor(name)
        front_end = ast_log_mel(extractor)
        hop, window = front_end.spectrum.hop, front_end.spectrum.window
        super().__init__(config, front_end, ((extractor.max_length - 1) * hop + window) / front_end.rate)
        self.window, self.silence = extractor.max_length, -front_end.spectrum.mean / front_end.spectrum.std
        self.model = load("model.audio.encoder", name, "ASTModel", found)
        self.width = self.model.config.hidden_size

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        return self.encode_tokens(log_mel, frames).vectors

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        """Fills the window after the clip as AST's extractor does: with log-mels that are 0 before normalisation.

        The patches of the same time are averaged over the bands.
        """
        filled_nMF = functional.pad(log_mel, (0, self.window - log_mel.shape[2]))
        after_nF = torch.arange(self.window, device=log_mel.device) >= frames[:, None]
        filled_nMF = filled_nMF.masked_fill(after_nF[:, None], self.silence)
        output, config = self.model(filled_nMF.transpose(1, 2)), self.model.config
        times = (self.window - config.patch_size) // config.time_stride + 1
        patches_nND = output.last_hidden_state[:, 2:]
        tokens_nND = patches_nND.reshape(len(patches_nND), -1, times, self.width).mean(1)
        counts_n = torch.div(frames + config.time_stride - 1, config.time_stride, rounding_mode="floor")
        return Encoded(output.pooler_output, tokens_nND, counts_n.clamp(1, times))


class WhisperAudio(HfAudio):
    """The mean over the states of the clip. Whisper always reads a window of 30 seconds."""

    def __init__(self, name: str, config: TowerConfig, found: Any) -> None:
        extractor = read_feature_extractor(name)
        super().__init__(config, WhisperLogMel(extractor), extractor.chunk_length)
        found.encoder_layerdrop = 0.0  # dropped layers would have no gradient on some ranks
        self.model = load("model.audio.encoder", name, "WhisperModel", found).get_encoder()
        self.width = found.d_model

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        return self.encode_tokens(log_mel, frames).vectors

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        states_nND = self.model(log_mel).last_hidden_state
        covered_n = torch.div(frames + 1, 2, rounding_mode="floor")
        valid_nN1 = (torch.arange(states_nND.shape[1], device=frames.device) < covered_n[:, None])[..., None]
        return Encoded((states_nND * valid_nN1).sum(1) / covered_n[:, None], states_nND, covered_n)
