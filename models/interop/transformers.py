"""Whole models of transformers, CLIP, SigLIP and CLAP: both towers, the temperature, and SigLIP's bias.

CLAP has learnt a scale for each direction. A term here has one for both: that of the logits per sound, by which a sound
is told from texts, as in zero-shot classification.
"""

from typing import Any

from torch import Tensor

from tercet.errors import UserError
from tercet.models.encoders.hf.folder import load, read_config, read_feature_extractor
from tercet.models.encoders.hf.hub import fetched
from tercet.models.encoders.hf.parts import architecture, halves
from tercet.models.interop.pretrained import TEMPERATURES, Pretrained

OF_TOWERS = {  # where a whole keeps what belongs to a tower
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
            f"{source}: a {kind} is a tower by itself and shares its space with no other; name it as an encoder of a "
            f"recipe, as model.text.encoder={source}"
        )
    towers = {modality: {"encoder": source, **_heard(name, modality)} for modality in halves(kind)}
    objective = "sigmoid" if kind == "SiglipModel" else "infonce"
    terms = {"pairs": {_pair(kind): 1.0}, "objective": {"name": objective}}
    return Pretrained(source, towers, terms, lambda: _weights(source, name, kind, config))


def _pair(kind: str) -> str:
    return "-".join(halves(kind))


def _heard(name: str, modality: str) -> dict[str, Any]:
    """CLAP hears windows of a fixed length, and its statistics are those of its training."""
    if modality != "audio":
        return {}
    return {"seconds": float(read_feature_extractor(name).max_length_s), "frozen_batchnorm": True}


def _weights(source: str, name: str, kind: str, config: Any) -> dict[str, Tensor]:
    with fetched(source, name, "it"):
        whole = load(source, name, kind, config).state_dict()
    return {_our_name(key, kind): value for key, value in whole.items()}


def _our_name(key: str, kind: str) -> str:
    """What has no counterpart, as CLAP's other scale, keeps its name."""
    if key in OF_PAIRS:
        return f"{TEMPERATURES}{_pair(kind)}.{OF_PAIRS[key]}"
    for modality, part in halves(kind).items():
        trunk, projection = OF_TOWERS[modality]
        if key.startswith((trunk, projection)):
            unwrapped = "" if part.wraps else trunk
            return f"towers.{modality}.model.{key.removeprefix(unwrapped)}"
    return key
