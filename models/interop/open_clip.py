"""Weights of open_clip, by tag, from a file or from a folder, with their trained temperature and bias.

In open_clip, the weights of a text tower start with `text.`, or are mixed with those of the model. Here the text tower
is always separate. Weights without a counterpart, such as those of the decoder of CoCa, keep their names.
"""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import huggingface_hub.constants as hub
import open_clip
from torch import Tensor

from tercet.errors import UserError
from tercet.models.encoder_names import LOCAL
from tercet.models.encoders.hf.hub import cache_if_hub_is_silent
from tercet.models.encoders.open_clip_models import (
    built_as,
    check_name,
    check_weights,
    local_weights,
    text_config,
)
from tercet.models.interop.pretrained import TEMPERATURES, Pretrained
from tercet.models.interop.weights_file import read_file, state_in

PAIR = "image-text"
OURS = {
    "visual.": "towers.image.model.",
    "text.": "towers.text.model.",
    "logit_scale": f"{TEMPERATURES}{PAIR}.log_scale",
    "logit_bias": f"{TEMPERATURES}{PAIR}.bias",
}
OURS |= {  # of a text tower that is mixed with the model
    part: f"towers.text.model.{part}"
    for part in ("positional_embedding", "token_embedding.", "transformer.", "ln_final.", "text_projection")
}
CONSTANTS = ("attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size")
POSITIONS = ".position_ids"  # no longer part of the weights in transformers
TAKEN_IN = ("mean", "std", "interpolation", "resize_mode")  # how the weights of a tag expect images


def pretrained_open_clip(source: str) -> Pretrained:
    """`open_clip:NAME/TAG` or `open_clip:NAME/FILE`."""
    name, _, given = source.partition(":")[2].partition("/")
    check_name(source, name)
    if not given:
        tags = open_clip.list_pretrained_tags_by_model(name)
        example = tags[0] if tags else "weights.safetensors"
        raise UserError(f"{source} names no weights; add a tag or a file, such as open_clip:{name}/{example}")
    if Path(given).is_file():
        return pretrained_file(Path(given), source, name)
    check_weights(source, name, given)
    config = open_clip.get_pretrained_cfg(name, given)
    found = {key: config[key] for key in TAKEN_IN if key in config}
    taken = {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
    built = built_as(name, bool(config.get("quick_gelu", False)))
    sigmoid = "init_logit_bias" in open_clip.get_model_config(built)
    return Pretrained(
        source, towers(built, taken), terms(sigmoid), lambda: by_our_names(_state(_downloaded(source, config)))
    )


def pretrained_local(folder: Path) -> Pretrained:
    """A folder that open_clip calls `local-dir:FOLDER`. It describes the towers and how they expect images."""
    name, file = f"{LOCAL}{folder}", Path(local_weights(f"{LOCAL}{folder}"))
    sigmoid = "init_logit_bias" in open_clip.get_model_config(name)
    return Pretrained(str(folder), towers(name), terms(sigmoid), lambda: by_our_names(_state(file)))


def pretrained_file(path: Path, source: str, name: str | None) -> Pretrained:
    """A file in open_clip's layout. Without the name of the architecture, the recipe must set the encoders."""
    weights = by_our_names(_state(path))  # not kept, or they would stay in memory for the whole run
    if any(key.startswith("audio_branch.") for key in weights):
        raise UserError(f"{source}: {path} is a checkpoint of LAION-CLAP; write laion_clap:{path}")
    if not any(key.startswith("towers.") for key in weights):
        raise UserError(
            f"{source}: {path} holds no tower in open_clip's layout, with names such as `visual.conv1.weight`"
        )
    sigmoid = OURS["logit_bias"] in weights
    return Pretrained(source, towers(name) if name else {}, terms(sigmoid), lambda: by_our_names(_state(path)))


def towers(name: str, taken: dict[str, Any] | None = None) -> dict[str, Any]:
    """Both towers of a model, in the form of a recipe."""
    image: dict[str, Any] = {"encoder": f"open_clip:{name}"}
    text: dict[str, Any] = {"encoder": f"open_clip:{name}"}
    if taken:
        image["options"] = {"force_preprocess_cfg": taken}
    if text_config(name).get("hf_model_name"):
        text["options"] = {"pretrained_text": False}  # its original weights are not needed
    return {"image": image, "text": text}


def terms(sigmoid: bool) -> dict[str, Any]:
    return {"pairs": {PAIR: 1.0}, "objective": {"name": "sigmoid" if sigmoid else "infonce"}}


def by_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {our_name(name): value for name, value in state.items()}
    return {name: value for name, value in named.items() if name is not None}


def our_name(name: str) -> str | None:
    """The name in `Multimodal` of a weight of open_clip; without a counterpart, its own name. None for constants."""
    if name.startswith(CONSTANTS) or name.endswith(POSITIONS):
        return None
    begin = next((part for part in OURS if name.startswith(part)), "")
    return OURS.get(begin, "") + name[len(begin) :]


def _state(path: Path) -> dict[str, Tensor]:
    return state_in(read_file(path), path)


def _downloaded(source: str, config: dict[str, Any]) -> Path:
    """The file from open_clip's cache, or from its download."""
    try:
        with cache_if_hub_is_silent("weights"):
            return Path(open_clip.download_pretrained(config))
    except (OSError, RuntimeError, URLError) as error:
        where = config.get("hf_hub") or config.get("url")
        raise UserError(
            f"{source}: {where} is not in the cache {hub.HF_HUB_CACHE} and cannot be downloaded; run once with "
            "network access, or name a file: open_clip:NAME/FILE"
        ) from error
