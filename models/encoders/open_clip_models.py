"""Builds a model of open_clip by its name, with a separate text tower, and loads its weights.

The text tower or the tokenizer of some models is downloaded from Hugging Face. An image tower never needs them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import open_clip
from open_clip import CoCa, CustomTextCLIP

from tercet.errors import UserError, did_you_mean
from tercet.models.config import TowerConfig
from tercet.models.encoder_names import LOCAL, check_open_clip_name
from tercet.models.encoders.hf.hub import cache_if_hub_is_silent, fetched
from tercet.models.quiet import without_logged_warnings

WEIGHTS = "open_clip_model.safetensors"  # in a folder of open_clip
STAND_IN = {"width": 8, "heads": 1, "layers": 1}  # a plain text tower, where only the image tower is used

Tokenizer = Callable[[list[str]], Any]


def create(modality: str, name: str, config: TowerConfig, **ours: object) -> CustomTextCLIP | CoCa:
    """The whole model with a separate text tower, even where open_clip would merge it into the model."""
    where = f"model.{modality}"
    check_name(f"{where}.encoder", name)
    options = {**ours, **config.options, "force_custom_text": True}
    pretrained = options.get("pretrained")
    if pretrained is not None and not Path(str(pretrained)).is_file():
        check_weights(f"{where}.options.pretrained", name, str(pretrained))
        _check_activation(where, name, str(pretrained), bool(options.get("force_quick_gelu")))
    foreign = str(text_config(name).get("hf_model_name", ""))
    with without_logged_warnings(), cache_if_hub_is_silent(pretrained):
        try:
            if modality == "image" and foreign:
                return _without_foreign_text(name, options)
            with _text_side(where, foreign):
                return open_clip.create_model(name, **options)
        except (TypeError, RuntimeError) as error:
            cause = str(error).splitlines()[0]
            raise UserError(
                f"{where}: open_clip cannot build `{name}` with options {config.options}: {cause}"
            ) from error


def tokenizer(name: str, config: TowerConfig) -> Tokenizer:
    """The tokenizer of the model."""
    check_name("model.text.encoder", name)
    with _text_side("model.text", str(text_config(name).get("hf_tokenizer_name", ""))):
        length = config.context_length or config.options.get("force_context_length")
        made: Tokenizer = open_clip.get_tokenizer(name, context_length=length)
    return made


def check_name(where: str, name: str) -> None:
    check_open_clip_name(where, name, open_clip.list_models())


def text_config(name: str) -> dict[str, Any]:
    return dict(open_clip.get_model_config(name)["text_cfg"])


def check_weights(where: str, name: str, tag: str) -> None:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        known = did_you_mean(tag, tags) if tags else "give the path of a file"
        raise UserError(f"{where}: `{tag}` is neither a file nor a tag of `{name}`; {known}")


def local_weights(name: str) -> str:
    """The file with the weights of `local-dir:FOLDER`."""
    folder = Path(name.removeprefix(LOCAL))
    known = (WEIGHTS, "open_clip_pytorch_model.bin", "model.safetensors")
    found = next((path for file in known if (path := folder / file).is_file()), None)
    if found is None:
        raise UserError(f"{folder} has no {WEIGHTS}; copy the whole folder")
    return str(found)


def has_quick_gelu(name: str) -> bool:
    return bool(open_clip.get_model_config(name).get("quick_gelu", False))


def built_as(name: str, quick_gelu: bool) -> str:
    """The name of the architecture with the activation that the weights were trained with.

    An architecture without such a variant was trained as it is.
    """
    twin = f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
    return twin if has_quick_gelu(name) != quick_gelu and twin in open_clip.list_models() else name


def _check_activation(where: str, name: str, pretrained: str, forced: bool) -> None:
    """Refuses to run weights under another activation than they were trained with."""
    quick = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))
    other = built_as(name, quick)
    if quick != (forced or has_quick_gelu(name)) and (forced or other != name):
        raise UserError(
            f"{where}.encoder: the weights `{pretrained}` of `{name}` were trained with another activation; "
            f"use `open_clip:{other}`"
        )


def _text_side(where: str, repository: str) -> AbstractContextManager[None]:
    """A context for code that may download a text tower or tokenizer from this repository."""
    if not repository:
        return nullcontext()
    return fetched(f"{where}.encoder", repository, f"`{repository}` from Hugging Face")


def _without_foreign_text(name: str, options: dict[str, Any]) -> CustomTextCLIP | CoCa:
    """The image tower with a placeholder text tower. It loads all weights of the image tower."""
    plain = {key: value for key, value in text_config(name).items() if not key.startswith("hf_")}
    model = open_clip.create_model(name, **{**options, "text_cfg": {**plain, **STAND_IN}, "load_weights": False})
    pretrained = local_weights(name) if name.startswith(LOCAL) else options.get("pretrained")
    if pretrained:
        tag = open_clip.get_pretrained_cfg(name, pretrained)
        file = open_clip.download_pretrained(tag, cache_dir=options.get("cache_dir")) if tag else pretrained
        loaded = open_clip.load_checkpoint(model, file, strict=False)
        wrong = [key for key in (*loaded.missing_keys, *loaded.unexpected_keys) if key.startswith("visual.")]
        if wrong:
            raise RuntimeError(f"{file} does not fit the image tower: {wrong[0]} is missing or unknown")
    return model
