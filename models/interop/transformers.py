"""Whole models of transformers (CLIP, SigLIP and CLAP): both towers, the temperature, and SigLIP's bias.

CLAP has a scale for each direction, but a term has one for both. It gets the scale of the logits per audio clip, which
zero-shot classification of audio uses.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tercet.errors import UserError
from tercet.models.encoders.hf.folder import load, read_config, read_feature_extractor
from tercet.models.encoders.hf.hub import fetched
from tercet.models.encoders.hf.laion_clap_sizes import FUSED_SECONDS
from tercet.models.encoders.hf.parts import ModelPart, architecture, halves
from tercet.models.interop.pretrained import TEMPERATURES, Pretrained

OF_TOWERS = {  # how the weights of each tower start: trunk, projection
    "image": ("vision_model.", "visual_projection."),
    "audio": ("audio_model.", "audio_projection."),
    "text": ("text_model.", "text_projection."),
}
OF_PAIRS = {"logit_scale": "log_scale", "logit_scale_a": "log_scale", "logit_bias": "bias"}


def pretrained_transformers(name: str) -> Pretrained:
    """What `hf:FOLDER` or `hf:OWNER/REPOSITORY` names."""
    source = f"hf:{name}"
    config = read_config(source, name)
    kind = architecture(config)
    if not halves(kind):
        raise UserError(
            f"{source}: a {kind} is a single tower, not a joint model; use it as an encoder in a recipe, such as "
            f"model.text.encoder={source}"
        )
    towers = {modality: {"encoder": source, **_audio_settings(name, modality)} for modality in halves(kind)}
    objective = "sigmoid" if kind == "SiglipModel" else "infonce"
    terms = {"pairs": {_pair(kind): 1.0}, "objective": {"name": objective}}
    return Pretrained(source, towers, terms, lambda: _weights(source, name, kind, config))


def _pair(kind: str) -> str:
    return "-".join(halves(kind))


def _audio_settings(name: str, modality: str) -> dict[str, Any]:
    """CLAP reads windows of a fixed length, or fuses longer clips, and has BatchNorm, whose statistics must stay."""
    if modality != "audio":
        return {}
    found = read_feature_extractor(name)
    seconds = FUSED_SECONDS if found.truncation == "fusion" else float(found.max_length_s)
    return {"seconds": seconds, "frozen_batchnorm": True}


def _weights(source: str, name: str, kind: str, config: Any) -> dict[str, Tensor]:
    with fetched(source, name, "it"):
        whole = load(source, name, kind, config).state_dict()
    return {_our_name(key, kind): value for key, value in whole.items()}


def _our_name(key: str, kind: str) -> str:
    """The name in `Multimodal`. Weights without a counterpart, such as CLAP's other scale, keep their name."""
    if key in OF_PAIRS:
        return f"{TEMPERATURES}{_pair(kind)}.{OF_PAIRS[key]}"
    for modality, part in halves(kind).items():
        if key.startswith(OF_TOWERS[modality]):
            return f"towers.{modality}.model.{key.removeprefix(_trunk(modality, part))}"
    return key


def of_whole(weights: Mapping[str, Tensor], modality: str, part: ModelPart) -> dict[str, Tensor]:
    """The weights of a half under the names that they have in the whole model."""
    return {f"{_trunk(modality, part)}{name}": value for name, value in weights.items()}


def _trunk(modality: str, part: ModelPart) -> str:
    """How names in the whole model begin, and in the half do not: a half that is only a trunk leaves this out."""
    return "" if part.wraps else OF_TOWERS[modality][0]
