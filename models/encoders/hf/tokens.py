"""Turns captions into token ids of one length, with the tokenizer of a folder."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.encoders.hf.folder import read_json

ABSENT = -1  # after the end of a caption; some tokenizers use the id of the padding inside captions too
MOST = 512  # tokens of a caption by default, because all rows of padding are stored and sent


class PaddingTokenizer:
    """A tokenizer of transformers for `TextIntake`. It cuts longer captions and fills shorter ones."""

    def __init__(self, tokenizer: Any, context: int, filling: int = ABSENT) -> None:
        self.tokenizer, self.context, self.filling = tokenizer, context, filling
        self.padding = padding_id(tokenizer)

    def __call__(self, texts: list[str]) -> Tensor:
        ids_nL = torch.full((len(texts), self.context), self.filling, dtype=torch.int64)
        for row, ids in enumerate(self.tokenizer(texts, truncation=True, max_length=self.context)["input_ids"]):
            ids_nL[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        ids_nL[:, 0].masked_fill_(ids_nL[:, 0] == ABSENT, self.padding)  # an empty caption has one token
        return ids_nL


def padding_id(tokenizer: Any) -> int:
    """The id of padding. Models do not attend to it."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in known if token is not None))


def context_of(key: str, name: str, tokenizer: Any, model: nn.Module, wanted: object) -> int:
    """The maximum number of tokens in a caption: what the weights support, or less if the recipe sets it as `key`."""
    limits = (tokenizer.model_max_length, _positions(model), _sentence_length(name))
    longest = min((limit for limit in limits if limit is not None), default=math.inf)
    if wanted is None:
        return int(min(longest, MOST))
    if not isinstance(wanted, int) or not 1 <= wanted <= longest:
        raise UserError(
            f"model.text.{key}: {wanted!r} is not a valid length for `hf:{name}`; "
            f"set a whole number from 1 to {longest:g}, or leave it out"
        )
    return wanted


def _positions(model: Any) -> int | None:
    """The number of positions. Models such as RoBERTa start after the position of the padding."""
    for place, part in model.named_modules():
        if place.endswith("position_embeddings") and isinstance(part, nn.Embedding) and part.padding_idx is not None:
            return part.num_embeddings - part.padding_idx - 1
    return getattr(model.config, "max_position_embeddings", None)


def _sentence_length(name: str) -> int | None:
    settings = read_json(name, "sentence_bert_config.json") or {}
    length: int | None = settings.get("max_seq_length")
    return length
