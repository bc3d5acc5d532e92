"""Weights of open_clip: by tag or from a file, with the temperature and bias that they were trained to.

open_clip keeps a text tower apart, under `text.`, or in the middle of the model; here it always stands apart. What has
no counterpart, as the decoder of CoCa, keeps its name.
"""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import huggingface_hub.constants as hub
import open_clip
from torch import Tensor

from tercet.errors import UserError
from tercet.models.encoders.hf.hub import cache_if_hub_is_silent
from tercet.models.encoders.open_clip_models import built_as, check_name, check_weights, text_config
from tercet.models.interop.pretrained import TEMPERATURES, Pretrained
from tercet.models.interop.weights_file import read_file, state_in

PAIR = "image-text"
OURS = {
    "visual.": "towers.image.model.",
    "text.": "towers.text.model.",
    "logit_scale": f"{TEMPERATURES}{PAIR}.log_scale",
    "logit_bias": f"{TEMPERATURES}{PAIR}.bias",
}
OURS |= {  # of a text tower in the middle of the model
    part: f"towers.text.model.{part}"
    for part in ("positional_embedding", "token_embedding.", "transformer.", "ln_final.", "text_projection")
}
CONSTANTS = ("attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size")
POSITIONS = ".position_ids"  # which transformers no longer keeps
TAKEN_IN = ("mean", "std", "interpolation", "resize_mode")  # what a tag says of pictures


def pretrained_open_clip(source: str) -> Pretrained:
    """`open_clip:NAME/TAG` or `open_clip:NAME/FILE`."""
    name, _, given = source.partition(":")[2].partition("/")
    check_name(source, name)
    if not given:
        tags = open_clip.list_pretrained_tags_by_model(name)
        example = tags[0] if tags else "weights.safetensors"
        raise UserError(f"{source}: names no weights; add a tag or a file, as open_clip:{name}/{example}")
    if Path(given).is_file():
        return pretrained_file(Path(given), source, name)
    check_weights(source, name, given)
    config = open_clip.get_pretrained_cfg(name, given)
    taken = {key: _plain(config[key]) for key in TAKEN_IN if key in config}
    built = built_as(name, bool(config.get("quick_gelu", False)))
    sigmoid = "init_logit_bias" in open_clip.get_model_config(built)
    return Pretrained(
        source, towers(built, taken), terms(sigmoid), lambda: by_our_names(_state(_downloaded(source, config)))
    )


def pretrained_file(path: Path, source: str, name: str | None) -> Pretrained:
    """A file in open_clip's layout; without the architecture's name the recipe must give the towers."""
    weights = by_our_names(_state(path))  # not kept: a run would hold them to its end
    if not any(key.startswith("towers.") for key in weights):
        raise UserError(f"{source}: {path} holds no tower in open_clip's layout, as `visual.conv1.weight`")
    sigmoid = OURS["logit_bias"] in weights
    return Pretrained(source, towers(name) if name else {}, terms(sigmoid), lambda: by_our_names(_state(path)))


def towers(name: str, taken: dict[str, Any] | None = None) -> dict[str, Any]:
    """Both towers of a model, as a recipe would write them."""
    image: dict[str, Any] = {"encoder": f"open_clip:{name}"}
    text: dict[str, Any] = {"encoder": f"open_clip:{name}"}
    if taken:
        image["options"] = {"force_preprocess_cfg": taken}
    if text_config(name).get("hf_model_name"):
        text["options"] = {"pretrained_text": False}  # what it started from need not be fetched
    return {"image": image, "text": text}


def terms(sigmoid: bool) -> dict[str, Any]:
    return {"pairs": {PAIR: 1.0}, "objective": {"name": "sigmoid" if sigmoid else "infonce"}}


def by_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {our_name(name): value for name, value in state.items()}
    return {name: value for name, value in named.items() if name is not None}


def our_name(name: str) -> str | None:
    """The name of a parameter of open_clip's in `Multimodal`, if it has one there; nothing for what is none."""
    if name.startswith(CONSTANTS) or name.endswith(POSITIONS):
        return None
    begin = next((part for part in OURS if name.startswith(part)), "")
    return OURS.get(begin, "") + name[len(begin) :]


def _state(path: Path) -> dict[str, Tensor]:
    return state_in(read_file(path), path)


def _downloaded(source: str, config: dict[str, Any]) -> Path:
    """open_clip's own download, or its cache."""
    try:
        with cache_if_hub_is_silent("weights"):
            return Path(open_clip.download_pretrained(config))
    except (OSError, RuntimeError, URLError) as error:
        where = config.get("hf_hub") or config.get("url")
        raise UserError(
            f"{source}: {where} is neither in the cache, {hub.HF_HUB_CACHE}, nor to be had; run once with a "
            "network, or name a file: open_clip:NAME/FILE"
        ) from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
