"""The sizes of LAION-CLAP's towers, by the names of their options. Imports no torch."""

from collections.abc import Mapping
from typing import Any

ROBERTA = "FacebookAI/roberta-base"
CONTEXT = 77  # tokens of a caption
LOWEST = 50  # hertz
FUSED_SECONDS = 30.0  # how much of a clip is read in training if it is fused
DROPPED: dict[str, Any] = {"hidden_dropout_prob": 0.0, "drop_path_rate": 0.1}
SIZES: dict[str, dict[str, Any]] = {
    "HTSAT-tiny": {"patch_embeds_hidden_size": 96, "depths": [2, 2, 6, 2], **DROPPED},
    "HTSAT-base": {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2], **DROPPED},
    "HTSAT-large": {"patch_embeds_hidden_size": 256, "depths": [2, 2, 12, 2], **DROPPED},
}
PROJECTION = ("projection_dim", "projection_hidden_act")
DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
AUDIO_SIZES = (
    "patch_embeds_hidden_size", "depths", "num_attention_heads", "window_size", "mlp_ratio", "aff_block_r",
    "drop_path_rate", *DROPOUT, *PROJECTION,
)  # fmt: skip
TEXT_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "layer_norm_eps", *DROPOUT, *PROJECTION,
)  # fmt: skip


def tokenizer_of(options: Mapping[str, object]) -> str:
    """The folder or repository of the tokenizer: that of the weights, unless the recipe names one."""
    return str(options.get("tokenizer") or options.get("pretrained") or ROBERTA)
