"""Towers from open_clip (Ilharco et al. 2021; Radford et al. 2021): its vectors, without its temperature and bias."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CustomTextCLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from tercet.data_pipelines.sample import ImageIntake, TextIntake
from tercet.errors import UserError, did_you_mean
from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoder, parameters_of
from tercet.models.encoders.image import ImageEncoder
from tercet.models.encoders.timm_towers import checkpoint_timm, timm_blocks


class OpenClipImage(ImageEncoder):
    """The image tower, up to and with its projection."""

    projects = True

    def __init__(self, name: str, config: TowerConfig) -> None:
        model = create("image", name, config, force_image_size=config.size)
        taken = open_clip.get_model_preprocess_cfg(model)
        height, width = _pair(taken["size"])
        super().__init__(ImageIntake((height, width), taken["interpolation"]), taken["mean"], taken["std"])
        self.model: nn.Module = model.visual
        self.width = int(open_clip.get_model_config(name)["embed_dim"])

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.model(self.normalise(values))
        return vectors

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
            raise UserError("model.image.grad_checkpointing: open_clip's ResNets cannot; leave it out")
        if isinstance(self.model, TimmModel):
            checkpoint_timm(self, self.model.trunk)
        else:
            self.model.set_grad_checkpointing(True)  # type: ignore[operator]


class OpenClipText(Encoder):
    """The text tower, up to and with its projection, and the tokenizer that its model was made for."""

    modality = "text"
    intake: TextIntake
    projects = True

    def __init__(self, name: str, config: TowerConfig) -> None:
        super().__init__()
        _refuse_downloaded_text(name, "siglip" in name.lower() or "hf_tokenizer_name" in _text_config(name))
        self.model: nn.Module = create("text", name, config).text
        self.intake = TextIntake(open_clip.get_tokenizer(name, context_length=self.model.context_length))
        self.width = int(open_clip.get_model_config(name)["embed_dim"])

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.model(values)
        return vectors

    def blocks(self) -> list[list[nn.Parameter]]:
        tail = ("ln_final", "text_projection")
        return _groups(self.model.transformer.resblocks, self.model, tail)  # type: ignore[union-attr, arg-type]

    def checkpoint_gradients(self) -> None:
        self.model.set_grad_checkpointing(True)  # type: ignore[operator]

    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        return self.intake.tokenize([""]).to(device), None


def create(modality: str, name: str, config: TowerConfig, **ours: object) -> CustomTextCLIP:
    """The whole model with its text tower apart, whatever way open_clip would have built it by itself."""
    where = f"model.{modality}"
    if name not in open_clip.list_models():
        raise UserError(
            f"{where}.encoder: open_clip has no model `{name}`; {did_you_mean(name, open_clip.list_models())}"
        )
    _refuse_downloaded_text(name, "hf_model_name" in _text_config(name))
    if "multimodal_cfg" in open_clip.get_model_config(name):
        raise UserError(f"{where}.encoder: `{name}` is a captioner, not a pair of towers; choose another model")
    _check_weights(where, name, config.options.get("pretrained"), bool(config.options.get("force_quick_gelu")))
    with _without_warnings():
        try:
            model = open_clip.create_model(name, **{**ours, **config.options}, force_custom_text=True)
        except (TypeError, RuntimeError) as error:
            cause = str(error).splitlines()[0]
            raise UserError(
                f"{where}: open_clip cannot build `{name}` with options {config.options}: {cause}"
            ) from error
    assert isinstance(model, CustomTextCLIP)
    return model


def _check_weights(where: str, name: str, pretrained: object, forced: bool) -> None:
    """Known weights only, and those trained with QuickGELU never silently under another GELU."""
    if pretrained is None or Path(str(pretrained)).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        known = did_you_mean(str(pretrained), tags) if tags else "give the path of a file"
        raise UserError(f"{where}.options.pretrained: `{pretrained}` is no file and no tag of `{name}`; {known}")
    quick = bool(open_clip.get_pretrained_cfg(name, str(pretrained)).get("quick_gelu", False))
    built = forced or bool(open_clip.get_model_config(name).get("quick_gelu", False))
    if quick != built:
        other = name + "-quickgelu" if quick else name.removesuffix("-quickgelu")
        raise UserError(
            f"{where}.encoder: the weights `{pretrained}` of `{name}` were trained with another activation; "
            f"use `open_clip:{other}`"
        )


def _refuse_downloaded_text(name: str, downloaded: bool) -> None:
    if downloaded:
        raise UserError(f"the text side of open_clip's `{name}` is a download from Hugging Face; choose another model")


def _text_config(name: str) -> dict[str, Any]:
    model = open_clip.get_model_config(name) or {}
    return dict(model.get("text_cfg", {}))


def _groups(stack: list[nn.Module], model: nn.Module, tail: tuple[str, ...]) -> list[list[nn.Parameter]]:
    groups = [parameters_of(block) for block in stack]
    groups[-1] += parameters_of(*(getattr(model, name, None) for name in tail))
    return groups


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@contextmanager
def _without_warnings() -> Iterator[None]:
    """open_clip warns that a model without `pretrained` starts from random weights: here that is what was asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
