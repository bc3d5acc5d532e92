"""The weights of one CLIP tower under the names of open_clip and of transformers, in both directions.

An attention of open_clip is one tensor of queries, keys and values, and transformers has three. Projections are
transposed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

OF_TOWERS = {  # open_clip: transformers, by how names begin
    "image": {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "conv1.": "vision_model.embeddings.patch_embedding.",
        "ln_pre.": "vision_model.pre_layrnorm.",
        "ln_post.": "vision_model.post_layernorm.",
        "transformer.resblocks.": "vision_model.encoder.layers.",
    },
    "text": {
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.": "text_model.embeddings.token_embedding.",
        "ln_final.": "text_model.final_layer_norm.",
        "transformer.resblocks.": "text_model.encoder.layers.",
    },
}
IN_BLOCKS = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
TRANSPOSED = {"image": ("proj", "visual_projection.weight"), "text": ("text_projection", "text_projection.weight")}
FUSED, PARTS = ".attn.in_proj_", tuple(f".self_attn.{one}_proj." for one in "qkv")


def to_transformers(modality: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a tower of open_clip under the names of CLIPModel."""
    matrix, layer = TRANSPOSED[modality]
    found: dict[str, Tensor] = {layer: weights[matrix].T}
    for name, value in weights.items():
        if name == matrix:
            continue
        theirs = renamed(renamed(name, OF_TOWERS[modality], at_start=True), IN_BLOCKS)
        if FUSED in theirs:
            found |= {theirs.replace(FUSED, part): one for part, one in zip(PARTS, value.chunk(3), strict=True)}
        else:
            found[theirs] = value
    return found


def to_open_clip(modality: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a half of CLIPModel under the names of a tower of open_clip."""
    matrix, layer = TRANSPOSED[modality]
    found: dict[str, Tensor] = {matrix: weights[layer].T}
    for name, value in weights.items():
        ours = renamed(renamed(name, _turned(OF_TOWERS[modality]), at_start=True), _turned(IN_BLOCKS))
        if PARTS[0] in name:
            parts = [value, *(weights[name.replace(PARTS[0], part)] for part in PARTS[1:])]
            found[ours.replace(PARTS[0], FUSED)] = torch.cat(parts)
        elif name != layer and not any(part in name for part in PARTS):
            found[ours] = value
    return found


def renamed(name: str, names: Mapping[str, str], at_start: bool = False) -> str:
    fits = name.startswith if at_start else name.__contains__
    return next((name.replace(old, new, 1) for old, new in names.items() if fits(old)), name)


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}
