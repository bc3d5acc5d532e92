"""The weights of a SigLIP of open_clip (a ViT of timm, a text transformer of its own) under the names of SiglipModel.

The attention of each block of the ViT is one layer of queries, keys and values, and transformers has three. In the
pooling at its end, queries are one layer and keys with values another, and transformers has one tensor for all.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tercet.models.interop import clip_names
from tercet.models.interop.clip_names import FUSED, PARTS, renamed

OF_TOWERS = {  # open_clip: transformers, by how names begin
    "image": {
        "trunk.patch_embed.proj.": "vision_model.embeddings.patch_embedding.",
        "trunk.pos_embed": "vision_model.embeddings.position_embedding.weight",
        "trunk.blocks.": "vision_model.encoder.layers.",
        "trunk.norm.": "vision_model.post_layernorm.",
        "trunk.attn_pool.latent": "vision_model.head.probe",
        "trunk.attn_pool.proj.": "vision_model.head.attention.out_proj.",
        "trunk.attn_pool.norm.": "vision_model.head.layernorm.",
        "trunk.attn_pool.mlp.": "vision_model.head.mlp.",
    },
    "text": clip_names.OF_TOWERS["text"] | {"text_projection.": "text_model.head."},
}
IN_BLOCKS = {
    "image": {".norm1.": ".layer_norm1.", ".norm2.": ".layer_norm2.", ".attn.proj.": ".self_attn.out_proj."},
    "text": clip_names.IN_BLOCKS,
}
OF_BLOCKS = {"image": ".attn.qkv.", "text": FUSED}
QUERY, KEY_VALUE = "trunk.attn_pool.q.", "trunk.attn_pool.kv."
POOLED = "vision_model.head.attention.in_proj_"


def to_transformers(modality: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a tower of open_clip under the names of SiglipModel."""
    found: dict[str, Tensor] = {}
    fused = OF_BLOCKS[modality]
    for name, value in weights.items():
        theirs = renamed(renamed(name, OF_TOWERS[modality], at_start=True), IN_BLOCKS[modality])
        if name.startswith(QUERY):
            kind = name.removeprefix(QUERY)
            found[POOLED + kind] = torch.cat([value, weights[KEY_VALUE + kind]])
        elif fused in theirs:
            found |= {theirs.replace(fused, part): one for part, one in zip(PARTS, value.chunk(3), strict=True)}
        elif not name.startswith(KEY_VALUE):
            found[theirs] = value[0] if name == "trunk.pos_embed" else value
    return found
