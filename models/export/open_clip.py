"""open_clip's folder for an image and a text tower: `open_clip_config.json` and `open_clip_model.safetensors`.

open_clip loads it by `local-dir:FOLDER`, or by `hf-hub:OWNER/NAME` from the hub. Text towers are always separate
(`custom_text`). A tower of open_clip keeps its own config and names; one of timm or Hugging Face becomes open_clip's
adapter for it, with the projection of the head as its last layer. The halves of a CLIP of transformers become
open_clip's own towers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.encoder_names import LOCAL, OPEN_CLIP_CONFIG
from tercet.models.encoders.encoder import Encoder
from tercet.models.encoders.image import ImageEncoder
from tercet.models.encoders.open_clip_models import WEIGHTS, has_quick_gelu
from tercet.models.encoders.open_clip_towers import OpenClipImage, OpenClipText
from tercet.models.encoders.timm_towers import TimmImage
from tercet.models.export.open_clip_halves import Part, half_of_clip, image_half, text_half
from tercet.models.export.pair import INSTEAD, pair_of, projection, refused
from tercet.models.export.reading import Reading, Samples
from tercet.models.multimodal import Multimodal
from tercet.models.quiet import without_logged_warnings
from tercet.models.space import SpaceConfig

FORMAT = "open_clip"
PAIR = ("image", "text")
NOT_BUILT = ("output_tokens", "timm_model_pretrained", "hf_model_pretrained", "patch_dropout")
INTERPOLATIONS = ("bicubic", "bilinear")
HF_POOLS = {"mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler"}


def write(model: Multimodal, config: SpaceConfig, folder: Path) -> list[str]:
    pair = pair_of(model, config, PAIR, FORMAT)
    image, text = _image(model, config), _text(model, config, folder)
    quick = {part.quick_gelu for part in (image, text)} - {None}
    if len(quick) > 1:
        encoder = config.model.towers["text"].encoder
        raise refused("text", encoder, FORMAT, "its activation is not that of the image tower (QuickGELU)")
    described = {
        "embed_dim": model.head.dim,
        "custom_text": True,
        "quick_gelu": quick == {True},
        "vision_cfg": image.config,
        "text_cfg": text.config,
        "init_logit_scale": float(pair.log_scale),
    } | ({} if pair.bias is None else {"init_logit_bias": float(pair.bias)})
    weights = image.weights | text.weights | {"logit_scale": pair.log_scale}
    weights |= {} if pair.bias is None else {"logit_bias": pair.bias}
    written = {"model_cfg": described, "preprocess_cfg": _preprocessing(model, config.model.towers["image"].encoder)}
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, folder / WEIGHTS, {"format": "pt"})
    return [*pair.left_out, *_further(text.config)]


def _further(text: dict[str, Any]) -> Iterator[str]:
    if name := text.get("hf_model_name"):
        yield f"the configuration of the text transformer: open_clip reads that of `{name}` whenever it loads the model"


@torch.no_grad()
def read(folder: Path, given: Samples) -> Reading:
    """What open_clip makes of the folder, by its own preprocessing, tokenizer and forward."""
    source = f"{LOCAL}{folder}"
    with without_logged_warnings():
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(source)
            tokenize = open_clip.get_tokenizer(source)
        except (RuntimeError, ValueError, TypeError, OSError, AssertionError) as error:
            cause = " ".join(str(error).split())[:200]
            raise UserError(f"format {FORMAT}: open_clip cannot build these towers: {cause}; {INSTEAD}") from error
    model.eval()
    pixels = torch.stack([preprocess(picture) for picture in given.image])
    vectors = {
        "image": model.encode_image(pixels, normalize=True),
        "text": model.encode_text(tokenize(given.text), normalize=True),
    }
    bias = None if model.logit_bias is None else float(model.logit_bias)
    return Reading(vectors, float(model.logit_scale.exp()), bias)


def _image(model: Multimodal, config: SpaceConfig) -> Part:
    tower, tower_config = model.tower("image"), config.model.towers["image"]
    encoder = tower_config.encoder
    name = encoder.partition(":")[2]
    if isinstance(tower, OpenClipImage):
        known = open_clip.get_model_config(name)
        built = {**known["vision_cfg"], **_options(tower_config.options, "vision_cfg")}
        built["image_size"] = _size(tower)
        native = not built.get("timm_model_name") and not isinstance(built.get("layers"), list)
        quick = _quick(name, tower_config.options) if native else None
        return Part(_built(built), _named(tower.model, "visual."), quick)
    if isinstance(tower, TimmImage):
        matrix = projection(model, "image")
        assert matrix is not None
        unknown = sorted(tower_config.options.keys() - {"pretrained", "drop_rate", "drop_path_rate", "patch_drop_rate"})
        if unknown:
            raise refused("image", encoder, FORMAT, f"it has the option `{unknown[0]}` of timm")
        built = {"timm_model_name": name, "timm_pool": "", "timm_proj": "linear", "image_size": _size(tower)}
        return Part(built, _named(tower.model, "visual.trunk.") | {"visual.head.proj.weight": matrix})
    if half_of_clip("image", tower):
        return image_half(tower, encoder)
    raise refused("image", encoder, FORMAT, "open_clip has no such tower")


def _text(model: Multimodal, config: SpaceConfig, folder: Path) -> Part:
    """The text tower. The files of its tokenizer are written into the folder, unless it is open_clip's own."""
    tower, tower_config = model.tower("text"), config.model.towers["text"]
    encoder = tower_config.encoder
    name = encoder.partition(":")[2]
    if isinstance(tower, OpenClipText):
        tokenizer: Any = tower.intake.tokenize
        built = {**open_clip.get_model_config(name)["text_cfg"], **_options(tower_config.options, "text_cfg")}
        built["context_length"] = tokenizer.context_length
        if isinstance(tokenizer, HFTokenizer):
            tokenizer.save_pretrained(folder)
        elif not isinstance(tokenizer, SimpleTokenizer):
            raise refused("text", encoder, FORMAT, f"its tokenizer is a {type(tokenizer).__name__}")
        native = isinstance(tower.model, TextTransformer)
        quick = _quick(name, tower_config.options) if native else None
        return Part(_built(built), _named(tower.model, "text."), quick)
    if half_of_clip("text", tower):
        return text_half(tower, encoder, folder)
    if encoder.startswith("hf:") and (matrix := projection(model, "text")) is not None:
        return _hf_text(tower, encoder, matrix, folder)
    raise refused("text", encoder, FORMAT, "open_clip has no such tower")


def _hf_text(tower: Any, encoder: str, matrix: Tensor, folder: Path) -> Part:
    """A single transformer of Hugging Face, pooled and then projected by one layer."""
    from tercet.models.encoders.hf.pooling import POOLS

    pool = next((name for name, one in POOLS.items() if one is tower.pool), "")
    if pool not in HF_POOLS:
        raise refused("text", encoder, FORMAT, f"open_clip does not pool by `{pool or 'its own pooler'}`")
    name = encoder.partition(":")[2]
    tower.intake.tokenize.tokenizer.save_pretrained(folder)
    built = {
        "hf_model_name": name,
        "hf_tokenizer_name": name,
        "hf_pooler_type": HF_POOLS[pool],
        "hf_proj_type": "linear",
        "context_length": tower.intake.tokenize.context,
    }
    return Part(built, _named(tower.model, "text.transformer.") | {"text.proj.weight": matrix})


def _named(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value.detach() for name, value in model.state_dict().items()}


def _options(options: dict[str, object], key: str) -> dict[str, Any]:
    found = options.get(key, {})
    assert isinstance(found, dict)
    return found


def _built(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in NOT_BUILT}


def _quick(name: str, options: dict[str, object]) -> bool:
    return has_quick_gelu(name) or bool(options.get("force_quick_gelu"))


def _size(tower: ImageEncoder) -> int | list[int]:
    height, width = tower.intake.size
    return height if height == width else [height, width]


def _preprocessing(model: Multimodal, encoder: str) -> dict[str, Any]:
    tower: Encoder = model.tower("image")
    assert isinstance(tower, ImageEncoder)
    if tower.intake.interpolation not in INTERPOLATIONS:
        raise refused("image", encoder, FORMAT, f"open_clip does not resize by `{tower.intake.interpolation}`")
    return {
        "mean": tower.mean.flatten().tolist(),
        "std": tower.std.flatten().tolist(),
        "interpolation": tower.intake.interpolation,
        "resize_mode": tower.intake.resize,
    }
