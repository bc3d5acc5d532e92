"""Towers from timm: any model for images; for audio a NaFlex ViT with a mask, a ViT or a convolutional network.

A NaFlex ViT (Dehghani et al. 2023) reads the patches of each clip and does not attend to padding. Other models read the
log-mel as a one-channel image of a fixed window, with silence after the clip.

Shape letters: n rows, F frames, M mel bands, P side of a patch, N patches, D the tower's width.
"""

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import get_pretrained_cfg, group_parameters
from torch import Tensor, nn
from torch.nn import functional

from tercet.data_pipelines.sample import ImageIntake
from tercet.errors import UserError, did_you_mean
from tercet.models.config import TowerConfig
from tercet.models.encoders.audio import AudioEncoder
from tercet.models.encoders.encoder import Encoder
from tercet.models.encoders.image import ImageEncoder

STRIDE = 32  # the window of a spectrogram is padded to a multiple of this, which suits timm's patches and strides


class TimmTower(Encoder):
    """A model of timm for any modality."""

    model: nn.Module

    def blocks(self) -> list[list[nn.Parameter]]:
        return timm_blocks(self.model)

    def checkpoint_gradients(self) -> None:
        checkpoint_timm(self, self.model)


class TimmImage(TimmTower, ImageEncoder):
    """Pooled features of a timm model, which gets images normalised as its weights expect."""

    def __init__(self, name: str, config: TowerConfig) -> None:
        check_timm_name("image", name)
        size = {} if config.size is None or not _has_fixed_size(name) else {"img_size": config.size}
        model = create("image", name, config, **size)
        data = resolve_model_data_config(model)
        side = (config.size, config.size) if config.size else tuple(data["input_size"][1:])
        super().__init__(ImageIntake(side, data["interpolation"]), data["mean"], data["std"])
        self.model, self.width = model, output_width(model)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.model(self.normalise(values))
        return vectors


class TimmAudio(TimmTower, AudioEncoder):
    """A timm model over the log-mel of a fixed window."""

    def __init__(self, name: str, config: TowerConfig) -> None:
        super().__init__(config)
        check_timm_name("audio", name)
        frames = int(self.front_end.frames(torch.tensor(self.intake.window)))
        self.window = -(-frames // STRIDE) * STRIDE
        size = {"img_size": (self.front_end.mels, self.window)} if _has_fixed_size(name) else {}
        self.model = create("audio", name, config, in_chans=1, **size)
        self.width = output_width(self.model)

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        picture = functional.pad(log_mel, (0, self.window - log_mel.shape[2]))
        vectors: Tensor = self.model(picture[:, None])
        return vectors


class NaFlexAudio(TimmTower, AudioEncoder):
    """A NaFlex ViT over the patches of a clip, without those of its padding."""

    def __init__(self, name: str, config: TowerConfig) -> None:
        super().__init__(config)
        # Masks padding as keys only: a mask of queries by keys would be as large as all attention maps.
        self.model = create("audio", name, config, in_chans=1, use_key_only_attn_mask=True)
        self.width = output_width(self.model)
        self.patch: tuple[int, int] = self.model.get_patch_size()  # type: ignore[operator]

    def encode(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        vectors: Tensor = self.model(**patchify(log_mel, frames, self.patch))
        return vectors


def patchify(log_mel: Tensor, frames: Tensor, patch: tuple[int, int]) -> dict[str, Tensor]:
    """Patches in order of time, so that those of a shorter clip come first. Padding patches have coordinates 0."""
    long, high = patch
    n, mels, total = log_mel.shape
    picture = functional.pad(log_mel.transpose(1, 2), (0, -mels % high, 0, -total % long))
    tall, wide = picture.shape[1] // long, picture.shape[2] // high
    patches = picture.reshape(n, tall, long, wide, high).transpose(2, 3).reshape(n, tall * wide, long * high)
    place = torch.arange(tall * wide, device=log_mel.device)
    coordinates = torch.stack((torch.div(place, wide, rounding_mode="floor"), place % wide), 1)
    valid = coordinates[:, 0] * long < frames[:, None]
    return {"x": patches, "patch_coord": coordinates * valid[..., None], "patch_valid": valid}


def check_timm_name(modality: str, name: str) -> None:
    if not timm.is_model(name):
        known = did_you_mean(name, timm.list_models())
        raise UserError(f"model.{modality}.encoder: timm has no model `{name}`; {known}")


def create(modality: str, name: str, config: TowerConfig, **ours: object) -> nn.Module:
    """A timm model without its classifier. Errors of timm about the name or options become a `UserError`."""
    check_timm_name(modality, name)
    try:
        model: nn.Module = timm.create_model(name, num_classes=0, **{**ours, **config.options})
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"model.{modality}: timm cannot build `{name}` with options {config.options}: {cause}"
        ) from error
    return model


def output_width(model: nn.Module) -> int:
    """The width of the output: some models widen features in the head, others in the trunk."""
    width: int = getattr(model, "head_hidden_size", None) or model.num_features  # type: ignore[assignment]
    return width


def timm_blocks(model: nn.Module) -> list[list[nn.Parameter]]:
    """timm's own groups without the stem. Parameters outside of all groups join the last block."""
    matcher = model.group_matcher(coarse=False)  # type: ignore[operator]
    if isinstance(matcher, dict):
        matcher = {**matcher, "rest": [(r".", (99999,))]}
    groups = group_parameters(model, matcher)
    return [[model.get_parameter(name) for name in groups[index]] for index in sorted(groups)[1:]]


def checkpoint_timm(encoder: Encoder, model: nn.Module) -> None:
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except AssertionError as error:
        name = type(model).__name__
        raise UserError(
            f"model.{encoder.modality}.grad_checkpointing: timm's {name} does not support it; leave it out"
        ) from error


def _has_fixed_size(name: str) -> bool:
    return bool(get_pretrained_cfg(name).fixed_input_size)
