"""The halves of a CLIP of transformers as towers of open_clip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tercet.models.export.pair import refused
from tercet.models.interop.clip_names import to_open_clip

FORMAT = "open_clip"
HALVES = {"image": "CLIPVisionModelWithProjection", "text": "CLIPTextModelWithProjection"}
QUICK = "quick_gelu"
OLD_END = 2  # the end of texts in old configs, in error: the highest id is meant


@dataclass(frozen=True)
class Part:
    """A tower as open_clip builds it. `quick_gelu` is None if the tower does not depend on it."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    quick_gelu: bool | None = None


def half_of_clip(modality: str, tower: nn.Module) -> bool:
    return type(getattr(tower, "model", None)).__name__ == HALVES[modality]


def image_half(tower: Any, encoder: str) -> Part:
    found, (height, width) = tower.model.config, tower.intake.size
    if tower.seen != tower.intake.size or height != width:
        raise refused("image", encoder, FORMAT, "it crops pictures after resizing them, or they are not square")
    sizes = {"head_width": found.hidden_size // found.num_attention_heads, "patch_size": found.patch_size}
    built = _half(found) | sizes | {"image_size": height}
    return Part(built, _weights("image", tower.model, "visual."), found.hidden_act == QUICK)


def text_half(tower: Any, encoder: str, folder: Path) -> Part:
    """The tower, and the files of its tokenizer in the folder."""
    found, tokens = tower.model.config, tower.intake.tokenize
    tokens.tokenizer.save_pretrained(folder)
    old = found.eos_token_id == OLD_END
    built = _half(found) | {
        "heads": found.num_attention_heads,
        "vocab_size": found.vocab_size,
        "context_length": tokens.context,
        "hf_tokenizer_name": encoder.partition(":")[2],
        "pool_type": "argmax" if old else "eos",
        "eos_id": found.eos_token_id,
    }
    weights = _weights("text", tower.model, "text.")
    weights["text.positional_embedding"] = weights["text.positional_embedding"][: tokens.context]
    return Part(built, weights, found.hidden_act == QUICK)


def _half(found: Any) -> dict[str, Any]:
    ratio = found.intermediate_size / found.hidden_size
    sizes = {"width": found.hidden_size, "layers": found.num_hidden_layers, "mlp_ratio": ratio}
    return sizes | {"norm_kwargs": {"eps": found.layer_norm_eps}}


def _weights(modality: str, half: nn.Module, prefix: str) -> dict[str, Tensor]:
    weights = to_open_clip(modality, {name: value.detach() for name, value in half.state_dict().items()})
    return {prefix + name: value for name, value in weights.items()}
