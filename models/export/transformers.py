"""A folder of transformers: `CLIPModel`, `SiglipModel` or `ClapModel`, with its processor.

Towers that are halves of these models keep their config and names. The two towers of a CLIP of open_clip become those
of `CLIPModel`, with the tokenizer that open_clip has built in; those of a SigLIP become those of `SiglipModel`.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from tercet.models.encoders.hf.folder import quiet
from tercet.models.encoders.hf.image import HfImage
from tercet.models.encoders.hf.parts import PARTS, halves
from tercet.models.encoders.hf.text import HfText
from tercet.models.encoders.image import ImageEncoder
from tercet.models.encoders.open_clip_towers import OpenClipImage, OpenClipText
from tercet.models.export.clip import clip_config, clip_tokenizer
from tercet.models.export.pair import Pair, pair_of, refused
from tercet.models.export.reading import RATE, Reading, Samples
from tercet.models.export.siglip import is_siglip, siglip_config, siglip_tokenizer
from tercet.models.interop import clip_names, siglip_names
from tercet.models.interop.transformers import of_whole
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig

FORMAT = "transformers"
SCALES = {
    "CLIPModel": ("logit_scale",),
    "SiglipModel": ("logit_scale",),
    "ClapModel": ("logit_scale_a", "logit_scale_t"),
}


def write(model: Multimodal, config: SpaceConfig, folder: Path) -> list[str]:
    modalities = ("image", "text") if "image" in model.towers else ("audio", "text")
    pair = pair_of(model, config, modalities, FORMAT)
    if isinstance(model.tower("image") if "image" in model.towers else None, OpenClipImage):
        kind, described, weights = _of_open_clip(model, config)
    else:
        kind, described, weights = _whole(model, config, pair)
    weights |= dict.fromkeys(SCALES[kind], pair.log_scale)
    left_out = list(pair.left_out)
    if kind == "SiglipModel":
        bias = torch.zeros(()) if pair.bias is None else pair.bias
        weights |= {"logit_scale": pair.log_scale.reshape(1), "logit_bias": bias.reshape(1)}
    elif pair.bias is not None:
        left_out.append(f"the bias of the logits, {float(pair.bias):.4g}, which a {kind} does not have")
    with quiet():
        whole = getattr(transformers, kind)(described)
        whole.load_state_dict({name: value.contiguous() for name, value in weights.items()})
        whole.save_pretrained(folder)
        _processor(model, kind).save_pretrained(folder)
    return left_out


@torch.no_grad()
def read(folder: Path, given: Samples) -> Reading:
    """What transformers makes of the folder, by its own processor. Pictures are resized by Pillow."""
    with quiet():
        model = transformers.AutoModel.from_pretrained(folder).eval()
        processor = transformers.AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    kind = type(model).__name__
    tokenizer = processor.tokenizer
    padding = "max_length" if kind == "SiglipModel" else True
    tokens = tokenizer(given.text, return_tensors="pt", padding=padding, truncation=True)
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
    if kind == "SiglipModel":
        inputs.pop("attention_mask", None)
    if kind == "ClapModel":
        waves = [wave for wave, _ in given.audio]
        inputs |= processor.feature_extractor(waves, sampling_rate=RATE, return_tensors="pt")
        inputs["is_longer"] = torch.zeros(len(waves), 1, dtype=torch.bool)  # otherwise, it fuses one of them at random
    else:
        images = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")  # type: ignore[no-untyped-call]
        inputs |= images(given.image, return_tensors="pt")
    found = model(**inputs)
    media = "audio" if kind == "ClapModel" else "image"
    vectors = {one: normalize(getattr(found, f"{one}_embeds"), dim=-1) for one in (media, "text")}
    bias = float(model.logit_bias) if kind == "SiglipModel" else None
    return Reading(vectors, float(getattr(model, SCALES[kind][0]).exp()), bias)


def _whole(model: Multimodal, config: SpaceConfig, pair: Pair) -> tuple[str, Any, dict[str, Tensor]]:
    """The model that both towers are halves of."""
    wholes = [_whole_of(model, config, modality) for modality in pair.modalities]
    if wholes[0] != wholes[1]:
        encoder = config.model.towers["text"].encoder
        raise refused("text", encoder, FORMAT, f"it is half of a {wholes[1]}, the other tower of a {wholes[0]}")
    kind, towers = wholes[0], {modality: _model_of(model, modality) for modality in pair.modalities}
    parts = halves(kind)
    described: dict[str, Any] = {
        str(parts[modality].within): tower.config.to_dict() for modality, tower in towers.items()
    }
    width = {} if kind == "SiglipModel" else {"projection_dim": model.head.dim}
    weights: dict[str, Tensor] = {}
    for modality, tower in towers.items():
        weights |= of_whole(tower.state_dict(), modality, parts[modality])
    return kind, getattr(transformers, kind).config_class(**described, **width), weights


def _whole_of(model: Multimodal, config: SpaceConfig, modality: str) -> str:
    encoder, kind = config.model.towers[modality].encoder, type(_model_of(model, modality)).__name__
    known = {whole for (of, whole), part in PARTS.items() if of == modality and part.within and part.kind == kind}
    if not known:
        raise refused(modality, encoder, FORMAT, "it is not a tower of a CLIPModel, SiglipModel or ClapModel")
    if not model.tower(modality).projects:
        raise refused(modality, encoder, FORMAT, "it has a projection of its own, and transformers' model another one")
    return next(iter(known))


def _model_of(model: Multimodal, modality: str) -> Any:
    return getattr(model.tower(modality), "model", None)


def _of_open_clip(model: Multimodal, config: SpaceConfig) -> tuple[str, Any, dict[str, Tensor]]:
    """A CLIP of open_clip as CLIPModel, or a SigLIP as SiglipModel."""
    siglip = is_siglip(model)
    described = siglip_config(model, config) if siglip else clip_config(model, config)
    names, weights = siglip_names if siglip else clip_names, dict[str, Tensor]()
    for modality in ("image", "text"):
        weights |= names.to_transformers(modality, _model_of(model, modality).state_dict())
    return "SiglipModel" if siglip else "CLIPModel", described, weights


def _processor(model: Multimodal, kind: str) -> Any:
    text = model.tower("text")
    if isinstance(text, OpenClipText):
        tokenizer = siglip_tokenizer(text) if kind == "SiglipModel" else clip_tokenizer(text)
    else:
        assert isinstance(text, HfText)
        padding: Any = text.intake.tokenize
        tokenizer = deepcopy(padding.tokenizer)
        tokenizer.model_max_length = padding.context
    if kind == "ClapModel":
        processor: Any = transformers.ClapProcessor
        return processor(model.tower("audio").extractor, tokenizer)
    image = model.tower("image")
    assert isinstance(image, ImageEncoder)
    processor = transformers.CLIPProcessor if kind == "CLIPModel" else transformers.SiglipProcessor
    return processor(_image_processor(image, kind), tokenizer)


def _image_processor(tower: ImageEncoder, kind: str) -> Any:
    height, width = tower.intake.size
    whole = {"height": height, "width": width}
    seen = dict(zip(("height", "width"), tower.seen, strict=True)) if isinstance(tower, HfImage) else whole
    pressed = tower.intake.resize == "squash"
    statistics = {"image_mean": tower.mean.flatten().tolist(), "image_std": tower.std.flatten().tolist()}
    resample = Image.Resampling[tower.intake.interpolation.upper()]
    if kind == "SiglipModel" and pressed:
        return transformers.SiglipImageProcessor(size=whole, resample=resample, **statistics)
    size = whole if pressed else {"shortest_edge": height}
    crop = {"do_center_crop": seen != whole or not pressed, "crop_size": seen}
    return transformers.CLIPImageProcessor(size=size, resample=resample, **crop, **statistics)
