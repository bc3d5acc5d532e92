"""Audio towers from Hugging Face that read the waveform: HuBERT, wav2vec 2.0 and WavLM.

The vector of a clip equals that of transformers for this clip without padding. In the base models of transformers, the
first norm also covers the padding; here it covers only the frames of the clip. The randomness of pretraining (masked
frames, dropped layers) is off.

Shape letters: n rows, C channels, T frames at any stage, D the tower's width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoded
from tercet.models.encoders.hf.audio import HfAudio
from tercet.models.encoders.hf.folder import load, read_feature_extractor
from tercet.models.encoders.hf.front_ends import Waveform


class WaveAudio(HfAudio):
    """The mean over the states of all frames of a clip."""

    def __init__(self, name: str, config: TowerConfig, found: Any) -> None:
        found.layerdrop = 0.0
        reach = receptive_field(found.conv_kernel, found.conv_stride)
        super().__init__(config, Waveform(read_feature_extractor(name), reach))
        self.model = load("model.audio.encoder", name, "AutoModel", found, unused=("masked_spec_embed",))
        self.width = found.hidden_size

    def stack(self) -> nn.Module:
        stack: nn.Module = self.model.encoder.layers
        return stack

    def features(self, values: Tensor, lengths: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """A waveform has no mel bands, so only SpecAugment masks over time have an effect."""
        return super().features(values, lengths, None if masks is None else masks_of_time(masks))

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        return self.encode_tokens(log_mel, frames).vectors

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        features_nCT, lengths = log_mel, frames
        for layer in self.model.feature_extractor.conv_layers:
            lengths = torch.div(lengths - layer.conv.kernel_size[0], layer.conv.stride[0], rounding_mode="floor") + 1
            features_nCT = layer.activation(_normed(layer, layer.conv(features_nCT), lengths))
        valid_nT = torch.arange(features_nCT.shape[2], device=lengths.device) < lengths[:, None]
        states_nTD = self._transformed(features_nCT.transpose(1, 2), valid_nT)
        vectors_nD = (states_nTD * valid_nT[..., None]).sum(1) / lengths[:, None]
        return Encoded(vectors_nD, states_nTD, lengths)

    def _transformed(self, features_nTC: Tensor, valid_nT: Tensor) -> Tensor:
        projected = self.model.feature_projection(features_nTC)
        hidden_nTD = projected[0] if isinstance(projected, tuple) else projected
        states: Tensor = self.model.encoder(hidden_nTD, attention_mask=valid_nT).last_hidden_state
        return states


def _normed(layer: Any, features_nCT: Tensor, lengths: Tensor) -> Tensor:
    norm = getattr(layer, "layer_norm", None)
    if norm is None:
        return features_nCT
    if isinstance(norm, nn.GroupNorm):
        return clip_norm(norm, features_nCT, lengths)
    over_channels: Tensor = norm(features_nCT.transpose(1, 2)).transpose(1, 2)
    return over_channels


def clip_norm(norm: nn.GroupNorm, features_nCT: Tensor, lengths: Tensor) -> Tensor:
    """Normalises each channel over the frames of the clip, without its padding."""
    with torch.autocast(features_nCT.device.type, enabled=False):
        after_n1T = torch.arange(features_nCT.shape[2], device=lengths.device) >= lengths[:, None, None]
        count_n11 = lengths[:, None, None]
        own_nCT = features_nCT.float().masked_fill(after_n1T, 0.0)
        centred_nCT = (own_nCT - own_nCT.sum(2, keepdim=True) / count_n11).masked_fill(after_n1T, 0.0)
        variance_nC1 = centred_nCT.square().sum(2, keepdim=True) / count_n11
        return centred_nCT * (variance_nC1 + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]


def masks_of_time(masks_nK4: Tensor) -> Tensor:
    """Keeps the masks that cover all bands; the others become empty."""
    low, high = masks_nK4[..., 0], masks_nK4[..., 1]
    return masks_nK4.masked_fill(~((low <= 0) & (high >= 1))[..., None], 0.0)


def receptive_field(kernels: list[int], strides: list[int]) -> int:
    """The number of samples that one frame covers."""
    reach = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        reach = (reach - 1) * stride + kernel
    return reach
