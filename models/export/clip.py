"""A CLIP of open_clip as transformers builds it: the config of `CLIPModel`, and the tokenizer.

Only the plain architecture of CLIP fits (Radford et al. 2021): a ViT with a class token and a norm before its blocks,
and a causal text transformer whose vector is that of the end token.
"""

from typing import Any

from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer, VisionTransformer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPTokenizer

from tercet.models.encoders.open_clip_towers import OpenClipText
from tercet.models.export.pair import refused
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig

FORMAT = "transformers"
START, END = "<|startoftext|>", "<|endoftext|>"  # as transformers writes them


def clip_config(model: Multimodal, config: SpaceConfig) -> Any:
    image: Any = getattr(model.tower("image"), "model", None)
    text: Any = getattr(model.tower("text"), "model", None)
    for modality, fault in (("image", _image_fault(image)), ("text", _text_fault(text, model))):
        if fault:
            raise refused(modality, config.model.towers[modality].encoder, FORMAT, fault)
    shared: dict[str, Any] = {"projection_dim": model.head.dim}
    vision = {"image_size": image.image_size[0], "patch_size": image.patch_size[0]}
    words = {
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "bos_token_id": text.vocab_size - 2,
        "eos_token_id": text.vocab_size - 1,
        "pad_token_id": text.vocab_size - 1,
    }
    return CLIPConfig(
        vision_config=sizes_of(image.transformer) | vision | shared,
        text_config=sizes_of(text.transformer) | words | shared,
        **shared,
    )


def clip_tokenizer(tower: OpenClipText) -> Any:
    """open_clip's built-in tokenizer as one of transformers."""
    own: Any = tower.intake.tokenize
    names = {own.sot_token_id: START, own.eot_token_id: END}
    vocabulary = {names.get(id, word): id for word, id in own.encoder.items()}
    merges: Any = sorted(own.bpe_ranks, key=own.bpe_ranks.get)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=own.context_length)


def sizes_of(transformer: Any) -> dict[str, Any]:
    """The sizes of a transformer of open_clip, by their names in the configs of transformers."""
    block = transformer.resblocks[0]
    return {
        "hidden_size": transformer.width,
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": len(transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "hidden_act": activation(block.mlp.gelu),
        "layer_norm_eps": block.ln_1.eps,
    }


def activation(layer: nn.Module) -> str:
    """Its name in transformers."""
    if isinstance(layer, QuickGELU):
        return "quick_gelu"
    return "gelu" if getattr(layer, "approximate", "none") == "none" else "gelu_pytorch_tanh"


def _image_fault(tower: Any) -> str:
    if not isinstance(tower, VisionTransformer):
        return f"it is a {type(tower).__name__}, and CLIPModel has a ViT"
    if tower.attn_pool is not None or tower.pool_type != "tok" or tower.final_ln_after_pool:
        return "its vector is not that of the class token, as in CLIPModel"
    if not isinstance(tower.ln_pre, nn.LayerNorm):
        return "it has no norm before its blocks, as CLIPModel has"
    if tower.image_size[0] != tower.image_size[1] or tower.patch_size[0] != tower.patch_size[1]:
        return "its pictures or patches are not square"
    return block_fault(tower.transformer)


def _text_fault(tower: Any, model: Multimodal) -> str:
    if not isinstance(tower, TextTransformer):
        return f"it is a {type(tower).__name__}, and CLIPModel has a causal transformer"
    if tower.attn_mask is None or tower.cls_emb is not None or tower.pool_type != "argmax":
        return "its vector is not that of the end token after causal attention, as in CLIPModel"
    if not isinstance(tower.text_projection, Tensor):
        return "its projection is not a matrix without bias, as in CLIPModel"
    tokenizer: Any = getattr(model.tower("text").intake, "tokenize", None)
    if not isinstance(tokenizer, SimpleTokenizer):
        return "its tokenizer is not that of CLIP"
    return block_fault(tower.transformer)


def block_fault(transformer: Any) -> str:
    """Why the blocks of a transformer of open_clip are not the plain ones; empty if they are."""
    for block in transformer.resblocks:
        if not isinstance(block, ResidualAttentionBlock) or not isinstance(block.ls_1, nn.Identity):
            return "its blocks are not those of CLIP"
    return ""
