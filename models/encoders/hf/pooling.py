"""Pools the output of a transformer for all tokens into one vector.

A folder of sentence-transformers defines its own pooling (Reimers & Gurevych 2019). The default for others is the mean
over the tokens; for a decoder it is the last token, because no other has read the whole caption.

Shape letters: n rows, L tokens, D the tower's width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from tercet.errors import UserError, did_you_mean
from tercet.models.encoders.hf.folder import read_json

Pool = Callable[[Any, Tensor], Tensor]  # a transformer's output and its valid tokens `[n, L]` to `[n, D]`

READ_BOTH_WAYS = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
ORDINARY = ("Transformer", "Pooling", "Normalize")  # steps that the tower or the head performs
NAMED = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}


def mean(output: Any, valid_nL: Tensor) -> Tensor:
    weight_nL1 = valid_nL[..., None].to(output.last_hidden_state.dtype)
    vectors: Tensor = (output.last_hidden_state * weight_nL1).sum(1) / weight_nL1.sum(1)
    return vectors


def first(output: Any, valid_nL: Tensor) -> Tensor:
    vectors: Tensor = output.last_hidden_state[:, 0]
    return vectors


def last(output: Any, valid_nL: Tensor) -> Tensor:
    rows = torch.arange(len(valid_nL), device=valid_nL.device)
    vectors: Tensor = output.last_hidden_state[rows, valid_nL.sum(1) - 1]
    return vectors


def pooled_by_model(vector: str) -> Pool:
    """The output that the model itself has pooled."""
    return lambda output, valid_nL: getattr(output, vector)


POOLS: dict[str, Pool] = {"mean": mean, "cls": first, "last": last}


def pool_of(name: str, config: Any, wanted: object) -> Pool:
    """The pooling of the recipe, or the one that the folder was trained with."""
    usual = "mean" if config.model_type in READ_BOTH_WAYS else "last"
    choice = str(wanted) if wanted is not None else _sentence_pooling(name) or usual
    if choice not in POOLS:
        known = did_you_mean(choice, POOLS)
        raise UserError(f"model.text.options.pool: `hf:{name}` uses `{choice}`, which is not supported; {known}")
    return POOLS[choice]


def _sentence_pooling(name: str) -> str | None:
    steps = read_json(name, "modules.json") or []
    further = [step["type"] for step in steps if step["type"].rpartition(".")[2] not in ORDINARY]
    if further:
        raise UserError(
            f"model.text.encoder: `hf:{name}` has a layer {further[0]}, which is not supported; "
            "set model.text.options.pool, such as mean, to use its transformer only"
        )
    settings = read_json(name, "1_Pooling/config.json") or {}
    chosen = [pool for key, pool in NAMED.items() if settings.get(key)]
    modes = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    unknown = [key for key in modes if key not in NAMED]
    if unknown or len(chosen) > 1:
        return " and ".join([*chosen, *unknown])
    return chosen[0] if chosen else settings.get("pooling_mode")
