"""Counts the captions whose end a text tower does not see."""

import torch

from tercet.data_pipelines.sample import TextIntake
from tercet.eval.embedding.embed import EmbeddingTable, TextEmbedder

LONGER = " end"


def truncated(table: EmbeddingTable, embed_text: TextEmbedder) -> int | None:
    """How many captions of the table are longer than the context of the text tower. None if the model cannot tell.

    A caption is longer if neither a further word nor the loss of its last letter changes its tokens.
    """
    intake = getattr(getattr(embed_text, "__self__", None), "intakes", {}).get("text")
    if not isinstance(intake, TextIntake) or "text" not in table.items:
        return None
    items, counts = (found.tolist() for found in torch.unique(table.items["text"], return_counts=True))
    captions = [one for item, count in zip(items, counts, strict=True) for one in table.samples[item].text[:count]]
    if len(captions) != len(table.items["text"]):
        return None
    tokens = intake.tokenize(captions)
    same = [(intake.tokenize([change(one) for one in captions]) == tokens).all(dim=1) for change in (_more, _less)]
    return int((same[0] & same[1]).sum())


def _more(caption: str) -> str:
    return caption + LONGER


def _less(caption: str) -> str:
    return caption.rstrip()[:-1]
