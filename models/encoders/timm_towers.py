"""Towers from timm: any model for images; for audio a NaFlex ViT with a mask, a ViT or a convolutional network.

A NaFlex ViT (Dehghani et al. 2023) reads the patches of each clip and does not attend to padding. Other models read the
log-mel as a one-channel image of a fixed window, with silence after the clip.

Shape letters: n rows, F frames, M mel bands, P side of a patch, N patches, C channels of a map, H
its height, W its width, T tokens of a sound, D the tower's width.
"""

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import Format, PatchEmbed
from timm.models import get_pretrained_cfg, group_parameters
from torch import Tensor, nn
from torch.nn import functional

from tercet.data_pipelines.sample import ImageIntake
from tercet.errors import UserError, did_you_mean
from tercet.models.config import TowerConfig
from tercet.models.encoders.alpha import AlphaConv, WithAlpha
from tercet.models.encoders.audio import AudioEncoder
from tercet.models.encoders.encoder import Encoded, Encoder
from tercet.models.encoders.image import ImageEncoder

STRIDE = 32  # the window of a spectrogram is padded to a multiple of this, which suits timm's patches and strides


class TimmTower(Encoder):
    """A model of timm for any modality."""

    model: nn.Module

    def blocks(self) -> list[list[nn.Parameter]]:
        return timm_blocks(self.model)

    def checkpoint_gradients(self) -> None:
        checkpoint_timm(self, self.model)

    def pooled_and_parts(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors and, in the same space, the patches `[n, N, D]` or the cells of the last map `[n, H, W, D]`.

        Each cell goes through the head by itself, and each patch through the norm that follows the pooling, if there is
        one.
        """
        pooled: Tensor = self.model.forward_head(features)  # type: ignore[operator]
        if features.ndim == 4:
            last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            cells_nHWC = features if last else features.permute(0, 2, 3, 1)
            single = cells_nHWC.flatten(0, 2)[:, None, None] if last else cells_nHWC.flatten(0, 2)[..., None, None]
            parts: Tensor = self.model.forward_head(single)  # type: ignore[operator]
            return pooled, parts.reshape(*cells_nHWC.shape[:3], -1)
        return pooled, self.patches(features)

    def patches(self, features: Tensor) -> Tensor:
        """The patches of a ViT `[n, N, D]`, without class tokens."""
        if features.ndim != 3 or features.shape[2] != self.width:
            raise self.lacks_tokens()
        patches_nND = features[:, getattr(self.model, "num_prefix_tokens", 0) :]
        found: Tensor = getattr(self.model, "fc_norm", nn.Identity())(patches_nND)
        return found


class TimmImage(TimmTower, ImageEncoder):
    """Pooled features of a timm model, which gets images normalised as its weights expect."""

    def __init__(self, name: str, config: TowerConfig) -> None:
        check_timm_name("image", name)
        size = {} if config.size is None or not _has_fixed_size(name) else {"img_size": config.size}
        dropped = {"patch_drop_rate": config.patch_dropout} if config.patch_dropout else {}
        model = create("image", name, config, **size, **dropped)
        data = resolve_model_data_config(model)
        side = (config.size, config.size) if config.size else tuple(data["input_size"][1:])
        super().__init__(ImageIntake(side, data["interpolation"]), data["mean"], data["std"])
        self.model, self.width = model, output_width(model)
        accept_other_sizes(model)

    @property
    def patch(self) -> int | None:
        return timm_patch(self.model)

    @property
    def patch_convolution(self) -> tuple[nn.Conv2d, type[WithAlpha]]:
        return timm_convolution(self.model) or super().patch_convolution

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.model(self.normalise(values))
        return vectors

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        features = self.model.forward_features(self.normalise(values))  # type: ignore[operator]
        vectors_nD, parts = self.pooled_and_parts(features)
        tokens_nND = parts.flatten(1, -2)
        counts_n = torch.full(tokens_nND.shape[:1], tokens_nND.shape[1], device=values.device)
        return Encoded(vectors_nD, tokens_nND, counts_n)


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
        vectors: Tensor = self.model(self._picture(log_mel))
        return vectors

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        """The tokens of the same time are averaged over the bands."""
        features = self.model.forward_features(self._picture(log_mel))  # type: ignore[operator]
        vectors_nD, parts = self.pooled_and_parts(features)
        if parts.ndim == 3:
            grid: tuple[int, int] | None = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
            if grid is None or grid[0] * grid[1] != parts.shape[1]:
                raise self.lacks_tokens()
            parts = parts.reshape(len(parts), *grid, -1)
        tokens_nTD = parts.mean(1)
        counts_n = torch.div(frames * tokens_nTD.shape[1] + self.window - 1, self.window, rounding_mode="floor")
        return Encoded(vectors_nD, tokens_nTD, counts_n.clamp(min=1))

    def _picture(self, log_mel: Tensor) -> Tensor:
        return functional.pad(log_mel, (0, self.window - log_mel.shape[2]))[:, None]


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

    def encode_tokens(self, log_mel: Tensor, frames: Tensor) -> Encoded:
        """The tokens of the same time are averaged over the bands."""
        given = patchify(log_mel, frames, self.patch)
        features = self.model.forward_features(given.pop("x"), **given)  # type: ignore[operator]
        long, bands = self.patch[0], -(-log_mel.shape[1] // self.patch[1])
        patches_nND = self.patches(features["patches"])
        if patches_nND.shape[1] % bands:  # the model drops patches at random
            raise self.lacks_tokens()
        tokens_nTD = patches_nND.reshape(len(patches_nND), -1, bands, self.width).mean(2)
        counts_n = torch.div(frames + long - 1, long, rounding_mode="floor").clamp(min=1)
        return Encoded(self.model.forward_head(**features), tokens_nTD, counts_n)  # type: ignore[operator]


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


def timm_patch(model: nn.Module) -> int | None:
    """The side of the patches of a ViT, if they are square."""
    patches = getattr(model, "patch_embed", None)
    sides = patches.patch_size if isinstance(patches, PatchEmbed) else (0, 1)
    return int(sides[0]) if sides[0] == sides[1] else None


def timm_convolution(model: nn.Module) -> tuple[nn.Conv2d, type[WithAlpha]] | None:
    """The convolution over the patches of a ViT, and what it becomes with a mask."""
    patches = getattr(model, "patch_embed", None)
    found = patches.proj if isinstance(patches, PatchEmbed) else None
    return (found, AlphaConv) if isinstance(found, nn.Conv2d) else None


def accept_other_sizes(model: nn.Module) -> None:
    """Sets what the option `dynamic_img_size` sets, for the models that have it. Their weights stay the same."""
    patches = getattr(model, "patch_embed", None)
    if isinstance(patches, PatchEmbed) and hasattr(model, "dynamic_img_size") and not model.dynamic_img_size:
        model.dynamic_img_size = True  # type: ignore[assignment]
        patches.strict_img_size, patches.flatten, patches.output_fmt = False, False, Format.NHWC


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
