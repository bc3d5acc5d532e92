"""Checkpoints of LAION-CLAP (Wu et al. 2023): `laion_clap:FILE.pt`, with fusion or without.

The names of the weights are those of the authors' code. They become those of transformers' CLAP, whose towers are used:
the query, key and value of an attention are one tensor there and three here. The file does not name the architecture,
but the shapes tell it. Weights without a counterpart, such as the classes of AudioSet, keep their names.
"""

import re
from collections.abc import Iterator, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.encoders.hf.laion_clap_sizes import FUSED_SECONDS, SIZES
from tercet.models.interop.pretrained import TEMPERATURES, Pretrained
from tercet.models.interop.weights_file import read_file, state_in

PAIR = "audio-text"
AUDIO, TEXT = "audio_branch.", "text_branch."
SECONDS = 10.0  # the window
HEAD_WIDTH = 64  # of RoBERTa, in all its sizes
TOKENIZERS = ("tokenizer.json", "vocab.json")
PARTS = (  # the branch, the projections and the temperature
    (r"^audio_branch\.", "towers.audio.model.audio_model.audio_encoder."),
    (r"^text_branch\.", "towers.text.model.text_model."),
    (r"^(audio|text)_projection\.0\.", r"towers.\1.model.\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"towers.\1.model.\1_projection.linear2."),
    (r"^logit_scale_a$", f"{TEMPERATURES}{PAIR}.log_scale"),
)
IN_HTSAT = (
    (r"\.bn0\.", ".batch_norm."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.(qkv|relative_position\w+)", r".attention.self.\1"),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)
CONSTANTS = re.compile(r"audio_branch\.(spectrogram|logmel)_extractor\.|\.attn_mask$|\.(position|token_type)_ids$")
WITHOUT_PLACE = ("audio_branch.tscam_conv.", "audio_branch.head.")  # the classes of AudioSet


def pretrained_laion_clap(source: str) -> Pretrained:
    """What `laion_clap:FILE` names."""
    path = Path(source.partition(":")[2])
    if not path.is_file():
        raise UserError(f"{source}: there is no file {path}; name a checkpoint, such as laion_clap:630k-best.pt")
    state = _state(path)
    _check(source, state)
    audio: dict[str, Any] = {
        "encoder": f"laion_clap:{_htsat(state)}",
        "seconds": FUSED_SECONDS if _fuses(state) else SECONDS,
        "frozen_batchnorm": True,  # the statistics of training
        "options": _audio_sizes(state),
    }
    tokenizer = {"tokenizer": str(path.parent)} if any((path.parent / name).is_file() for name in TOKENIZERS) else {}
    text = {"encoder": "laion_clap:roberta", "options": _text_sizes(state) | tokenizer}
    terms = {"pairs": {PAIR: 1.0}, "objective": {"name": "infonce"}}
    return Pretrained(source, {"audio": audio, "text": text}, terms, lambda: by_our_names(_state(path)))


def by_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = (item for item in state.items() if not CONSTANTS.search(item[0]))
    return dict(_constants(state)) | dict(renamed for name, value in weights for renamed in _renamed(name, value))


def _renamed(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensor under its names in `Multimodal`: one, or three of an attention."""
    ours = name
    if not name.startswith(WITHOUT_PLACE):
        for pattern, new in PARTS + (IN_HTSAT if name.startswith(AUDIO) else ()):
            ours = re.sub(pattern, new, ours)
    if ".attention.self.qkv." not in ours:
        yield ours, value
        return
    for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
        yield ours.replace(".qkv.", f".{part}."), rows


def _constants(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that transformers keeps beside the weights, and that not every file has."""
    positions = len(state[f"{TEXT}embeddings.position_embeddings.weight"])
    prefix = "towers.text.model.text_model.embeddings."
    yield f"{prefix}position_ids", torch.arange(positions)[None]
    yield f"{prefix}token_type_ids", torch.zeros(1, positions, dtype=torch.int64)


def _check(source: str, state: Mapping[str, Tensor]) -> None:
    """Rejects files of other towers, which LAION-CLAP's code has too."""
    types = state.get(f"{TEXT}embeddings.token_type_embeddings.weight")
    fusion = [name for name in state if name.startswith(f"{AUDIO}patch_embed.fusion_model.")]
    if f"{AUDIO}patch_embed.proj.weight" not in state:
        fault = "its audio tower is not HTSAT"
    elif types is None or len(types) != 1:
        fault = "its text tower is not RoBERTa"
    elif f"{AUDIO}patch_embed.mel_conv2d.weight" in state and (not fusion or any("att2." in name for name in fusion)):
        fault = "its fusion is not aff_2d"
    else:
        return
    raise UserError(f"{source}: {fault}, which is the only kind that is supported; choose another checkpoint")


def _fuses(state: Mapping[str, Tensor]) -> bool:
    return f"{AUDIO}patch_embed.mel_conv2d.weight" in state


def _htsat(state: Mapping[str, Tensor]) -> str:
    """The size of the authors with as many channels; their smallest for others."""
    channels = len(state[f"{AUDIO}patch_embed.proj.weight"])
    return next((name for name, size in SIZES.items() if size["patch_embeds_hidden_size"] == channels), "HTSAT-tiny")


def _audio_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of the tower that differ from those of its name."""
    tables = {
        (int(found[1]), int(found[2])): value
        for name, value in state.items()
        if (found := re.match(rf"{AUDIO}layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table", name))
    }
    stages = 1 + max(stage for stage, _ in tables)
    sizes: dict[str, Any] = {
        "patch_embeds_hidden_size": len(state[f"{AUDIO}patch_embed.proj.weight"]),
        "depths": [sum(one == stage for one, _ in tables) for stage in range(stages)],
        "num_attention_heads": [tables[stage, 0].shape[1] for stage in range(stages)],
        "window_size": (isqrt(len(tables[0, 0])) + 1) // 2,
        "projection_dim": len(state["audio_projection.0.weight"]),
    }
    usual = {"num_attention_heads": [4, 8, 16, 32], "window_size": 8, "projection_dim": 512} | SIZES[_htsat(state)]
    sizes = {name: size for name, size in sizes.items() if size != usual[name]}
    return sizes | ({"fusion": True} if _fuses(state) else {})


def _text_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    words = state[f"{TEXT}embeddings.word_embeddings.weight"]
    layers = {name.split(".")[3] for name in state if name.startswith(f"{TEXT}encoder.layer.")}
    sizes = {
        "vocab_size": len(words),
        "hidden_size": words.shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, words.shape[1] // HEAD_WIDTH),
        "intermediate_size": len(state[f"{TEXT}encoder.layer.0.intermediate.dense.weight"]),
        "max_position_embeddings": len(state[f"{TEXT}embeddings.position_embeddings.weight"]),
        "projection_dim": len(state["text_projection.0.weight"]),
    }
    usual = (50_265, 768, 12, 12, 3_072, 514, 512)
    return {name: size for (name, size), base in zip(sizes.items(), usual, strict=True) if size != base}


def _state(path: Path) -> dict[str, Tensor]:
    return state_in(read_file(path), path)
