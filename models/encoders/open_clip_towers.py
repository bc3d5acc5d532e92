"""Towers from open_clip (Ilharco et al. 2021; Radford et al. 2021). They leave out its temperature and bias."""

from typing import cast, get_args

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import PatchDropout, TextTransformer, VisionTransformer
from torch import Tensor, nn
from torch.func import functional_call

from tercet.data_pipelines.sample import ImageIntake, Resize, TextIntake
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.alpha import AlphaConv, WithAlpha
from tercet.models.encoders.block_dropout import drop_inputs
from tercet.models.encoders.encoder import Encoded, parameters_of
from tercet.models.encoders.hf.tower import blocks_of, stack_of
from tercet.models.encoders.image import ImageEncoder
from tercet.models.encoders.open_clip_models import create, tokenizer
from tercet.models.encoders.text import TextEncoder, longest_of
from tercet.models.encoders.timm_towers import (
    accept_other_sizes,
    checkpoint_timm,
    timm_blocks,
    timm_convolution,
    timm_patch,
)
from tercet.models.tuning.positions import resized

ROUND = 8  # texts are cut to a multiple of this many tokens, because GPUs are slow at odd shapes


class OpenClipImage(ImageEncoder):
    """The image tower, including its projection."""

    projects = True

    def __init__(self, name: str, config: TowerConfig) -> None:
        dropped = {"force_patch_dropout": config.patch_dropout} if config.patch_dropout else {}
        model = create("image", name, config, force_image_size=config.size, **dropped)
        if config.patch_dropout and isinstance(model.visual, ModifiedResNet):
            raise UserError("model.image.patch_dropout: open_clip's ResNets have no patches; leave it out")
        taken = open_clip.get_model_preprocess_cfg(model)
        intake = ImageIntake(_pair(taken["size"]), taken["interpolation"], _resize(taken["resize_mode"]))
        super().__init__(intake, taken["mean"], taken["std"])
        self.model = _pooled(model.visual)
        self.width = int(open_clip.get_model_config(name)["embed_dim"])
        if isinstance(self.model, TimmModel):
            accept_other_sizes(self.model.trunk)
        elif isinstance(self.model, VisionTransformer):
            self.model.__class__ = ViTOfAnySize
            if config.patch_dropout:
                self.model.patch_dropout = PatchDropout(config.patch_dropout)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        found = self.model(self.normalise(values))
        vectors: Tensor = found[0] if self.model.output_tokens else found
        return vectors

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        """The patches, through the last norm and the projection."""
        if not self.model.output_tokens:
            raise self.lacks_tokens()
        vectors_nD, patches_nLD = self.model(self.normalise(values))
        if self.model.final_ln_after_pool:
            patches_nLD = self.model.ln_post(patches_nLD)  # type: ignore[operator]
        counts_n = torch.full(patches_nLD.shape[:1], patches_nLD.shape[1], device=values.device)
        return Encoded(vectors_nD, _projected(patches_nLD, self.model.proj), counts_n)

    @property
    def patch(self) -> int | None:
        if isinstance(self.model, VisionTransformer):
            return int(self.model.conv1.kernel_size[0])
        return timm_patch(self.model.trunk) if isinstance(self.model, TimmModel) else None

    @property
    def patch_convolution(self) -> tuple[nn.Conv2d, type[WithAlpha]]:
        if isinstance(self.model, VisionTransformer):
            return self.model.conv1, AlphaConv
        found = timm_convolution(self.model.trunk) if isinstance(self.model, TimmModel) else None
        return found or super().patch_convolution

    def blocks(self) -> list[list[nn.Parameter]]:
        if isinstance(self.model, TimmModel):
            groups = timm_blocks(self.model.trunk)
            groups[-1] += parameters_of(self.model.head)
            return groups
        if isinstance(self.model, ModifiedResNet):
            stages = [getattr(self.model, f"layer{stage}") for stage in (1, 2, 3, 4)]
            return _groups(stages, self.model, ("attnpool",))
        tail = ("ln_post", "attn_pool", "attn_pool_contrastive", "proj")
        return _groups(self.model.transformer.resblocks, self.model, tail)  # type: ignore[union-attr, arg-type]

    def checkpoint_gradients(self) -> None:
        if isinstance(self.model, ModifiedResNet):
            raise UserError("model.image.grad_checkpointing: open_clip's ResNets do not support it; leave it out")
        if isinstance(self.model, TimmModel):
            checkpoint_timm(self, self.model.trunk)
        else:
            self.model.set_grad_checkpointing(True)  # type: ignore[operator]


class OpenClipText(TextEncoder):
    """The text tower, including its projection, and the tokenizer of the model.

    As in open_clip, a transformer from Hugging Face starts from its own pretrained weights, unless `options` name
    others. `pretrained_text: false` starts it from random weights.
    """

    projects = True

    def __init__(self, name: str, config: TowerConfig) -> None:
        super().__init__(config)
        self.intake = TextIntake(tokenizer(name, config))
        self.model = _pooled(self._created(name, config))
        self.width = int(open_clip.get_model_config(name)["embed_dim"])

    def add_dropout(self, share: float) -> None:
        if not isinstance(self.model, TextTransformer):
            return super().add_dropout(share)
        drop_inputs(self.model.transformer.resblocks, share)

    def _created(self, name: str, config: TowerConfig) -> nn.Module:
        """Pretrained positions are stretched or cut here, because open_clip would stretch all of them."""
        length = config.context_length
        pretrained = config.options.get("pretrained")
        tower: nn.Module = create("text", name, config, force_context_length=None if pretrained else length).text
        if pretrained and length is not None and isinstance(tower, TextTransformer):
            found = None if tower.cls_emb is not None else self.fit_positions(tower.positional_embedding.data, length)
            if found is None:
                raise UserError(
                    f"model.text.context_length: the {tower.context_length} positions of `{name}` cannot become "
                    f"{length}; set model.text.keep_positions to a lower number, or leave the length out"
                )
            tower.positional_embedding = nn.Parameter(found.clone())
            tower.num_pos = tower.context_length = length
            if tower.attn_mask is not None:
                tower.attn_mask = tower.build_causal_mask()
        return tower

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = _shortened(self.model, values)[0] if self.model.output_tokens else self.model(values)
        return vectors

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        """The tokens up to the end token, through the projection. The start token has read no word and is left out."""
        if not self.model.output_tokens:
            raise self.lacks_tokens()
        vectors_nD, tokens_nLD = _shortened(self.model, values)
        tokens_nLD = _projected(tokens_nLD[:, 1:], self.model.text_projection)
        return Encoded(vectors_nD, tokens_nLD, values.argmax(dim=1))

    def blocks(self) -> list[list[nn.Parameter]]:
        if isinstance(self.model, HFTextEncoder):
            return blocks_of(self.model, stack_of(self.model))
        tail = ("ln_final", "text_projection")
        return _groups(self.model.transformer.resblocks, self.model, tail)  # type: ignore[union-attr, arg-type]

    def checkpoint_gradients(self) -> None:
        if isinstance(self.model, HFTextEncoder):
            self.model.transformer.activation_checkpointing_enable()
        else:
            self.model.set_grad_checkpointing(True)  # type: ignore[operator]


class ViTOfAnySize(VisionTransformer):  # type: ignore[misc]  # open_clip has no types
    """open_clip's ViT, which interpolates its position embeddings if pictures have another size."""

    def _embeds(self, x: Tensor) -> Tensor:
        patches_nLC = self.conv1(x).flatten(2).transpose(1, 2)
        class_n1C = self.class_embedding.to(patches_nLC.dtype).expand(len(x), 1, -1)
        tokens_nLC = torch.cat([class_n1C, patches_nLC], dim=1)
        positions_LC = resized(self.positional_embedding, tokens_nLC.shape[1]).to(tokens_nLC.dtype)
        found: Tensor = self.ln_pre(self.patch_dropout(tokens_nLC + positions_LC))
        return found


def _looks_back_only(tower: nn.Module) -> bool:
    """Whether attention is causal and the vector is that of the end token, which has the highest id, as in CLIP."""
    plain = isinstance(tower, TextTransformer) and tower.pool_type == "argmax" and tower.cls_emb is None
    return plain and tower.attn_mask is not None


def _projected(tokens_nLC: Tensor, projection: nn.Module | Tensor | None) -> Tensor:
    """Through the projection of the tower: a layer, a matrix or nothing."""
    if projection is None:
        return tokens_nLC
    found: Tensor = projection(tokens_nLC) if isinstance(projection, nn.Module) else tokens_nLC @ projection
    return found


def _shortened(tower: nn.Module, values_nL: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors and tokens, without computing the padding after the longest text. Causal attention never reads it."""
    longest = longest_of(values_nL.argmax(dim=1) + 1, values_nL)
    length = min(-(-longest // ROUND) * ROUND, values_nL.shape[1])
    causal_LL: Tensor = tower.attn_mask[:length, :length]  # type: ignore[index]
    vectors, tokens = functional_call(tower, {"attn_mask": causal_LL}, (values_nL[:, :length],))
    return vectors, tokens


def _pooled(tower: nn.Module) -> nn.Module:
    """The tower in fp32; weights from Hugging Face may have another precision. It also returns tokens if those are the
    patches or words of its input. The tokens of CoCa are not."""
    patches = isinstance(tower, VisionTransformer) and tower.attn_pool is None
    tower.output_tokens = patches or _looks_back_only(tower)  # type: ignore[assignment]
    return tower.float()


def _groups(stack: list[nn.Module], model: nn.Module, tail: tuple[str, ...]) -> list[list[nn.Parameter]]:
    groups = [parameters_of(block) for block in stack]
    groups[-1] += parameters_of(*(getattr(model, name, None) for name in tail))
    return groups


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _resize(mode: str) -> Resize:
    if mode not in get_args(Resize):
        raise UserError(
            f"model.image.options.force_preprocess_cfg.resize_mode: `{mode}` is not supported; use shortest or squash"
        )
    return cast(Resize, mode)
