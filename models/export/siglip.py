"""A SigLIP of open_clip (Zhai et al. 2023) as transformers builds it: the config of `SiglipModel` and the tokenizer."""

import string
from copy import deepcopy
from typing import Any

from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer, canonicalize_text
from open_clip.transformer import TextTransformer
from timm.layers import AttentionPoolLatent
from timm.models.vision_transformer import Block, VisionTransformer
from tokenizers import Regex, normalizers
from torch import nn
from transformers import SiglipConfig

from tercet.models.encoders.open_clip_towers import OpenClipText
from tercet.models.export.clip import FORMAT, activation, block_fault, sizes_of
from tercet.models.export.pair import refused
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig


def is_siglip(model: Multimodal) -> bool:
    """Whether the image tower pools as SigLIP's does. Then the whole model is one, or no model of transformers."""
    trunk = getattr(getattr(model.tower("image"), "model", None), "trunk", None)
    return isinstance(getattr(trunk, "attn_pool", None), AttentionPoolLatent)


def siglip_config(model: Multimodal, config: SpaceConfig) -> Any:
    image: Any = getattr(model.tower("image"), "model", None)
    text: Any = getattr(model.tower("text"), "model", None)
    for modality, fault in (("image", _image_fault(image)), ("text", _text_fault(text, model))):
        if fault:
            raise refused(modality, config.model.towers[modality].encoder, FORMAT, fault)
    block, trunk = image.trunk.blocks[0], image.trunk
    vision = {
        "hidden_size": trunk.embed_dim,
        "intermediate_size": block.mlp.fc1.out_features,
        "num_hidden_layers": len(trunk.blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": image.image_size[0],
        "patch_size": trunk.patch_embed.patch_size[0],
        "hidden_act": activation(block.mlp.act),
        "layer_norm_eps": block.norm1.eps,
    }
    words = {
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "projection_size": model.head.dim,
    }
    return SiglipConfig(vision_config=vision, text_config=sizes_of(text.transformer) | words)


def siglip_tokenizer(tower: OpenClipText) -> Any:
    """The tokenizer of the tower, which also cleans texts as open_clip does before it."""
    own: Any = tower.intake.tokenize
    tokenizer: Any = deepcopy(own.tokenizer)
    tokenizer.model_max_length = own.context_length
    if own.clean_fn("A_B,") == canonicalize_text("A_B,"):
        rules = tokenizer.backend_tokenizer
        steps: list[Any] = [
            normalizers.Replace("_", " "),
            normalizers.Replace(Regex(f"[{_escaped(string.punctuation)}]"), ""),
        ]
        steps += [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        rules.normalizer = normalizers.Sequence([*steps, *([rules.normalizer] if rules.normalizer else [])])
    return tokenizer


def _escaped(letters: str) -> str:
    return "".join(f"\\{letter}" for letter in letters)


def _image_fault(tower: Any) -> str:
    trunk = tower.trunk if isinstance(tower, TimmModel) else None
    if not isinstance(trunk, VisionTransformer) or not isinstance(trunk.attn_pool, AttentionPoolLatent):
        return "it is not the ViT of SigLIP"
    plain = all(isinstance(one, nn.Identity) for one in (trunk.norm_pre, trunk.fc_norm)) and not len(tower.head)
    if trunk.cls_token is not None or trunk.reg_token is not None or not plain:
        return "it has a class token, registers or a projection, which SiglipModel has not"
    pool, heads = trunk.attn_pool, trunk.blocks[0].attn.num_heads
    if pool.latent_len != 1 or pool.pos_embed is not None or pool.num_heads != heads or pool.mlp is None:
        return "it pools in another way than SiglipModel"
    if not all(map(_is_plain, trunk.blocks)):
        return "its blocks are not those of SiglipModel"
    if tower.image_size[0] != tower.image_size[1]:
        return "its pictures are not square"
    return ""


def _is_plain(block: nn.Module) -> bool:
    """Whether a block of timm has neither layer scales nor gates, and no norms within its attention."""
    attention: Any = getattr(block, "attn", None)
    if not isinstance(block, Block) or getattr(attention, "gate", None) is not None:
        return False
    parts = (block.ls1, block.ls2, attention.q_norm, attention.k_norm, attention.norm)
    return all(isinstance(part, nn.Identity) for part in parts)


def _text_fault(tower: Any, model: Multimodal) -> str:
    if not isinstance(tower, TextTransformer):
        return f"it is a {type(tower).__name__}, and SiglipModel has a transformer of its own"
    if tower.attn_mask is not None or tower.cls_emb is not None or tower.pool_type != "last" or tower.use_pad_mask:
        return "its vector is not that of the last token after attention in both directions, as in SiglipModel"
    if not isinstance(tower.text_projection, nn.Linear):
        return "its projection has no bias, as that of SiglipModel has"
    if not isinstance(getattr(model.tower("text").intake, "tokenize", None), HFTokenizer):
        return "its tokenizer is not one of Hugging Face"
    return block_fault(tower.transformer)
