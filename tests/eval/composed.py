"""Pictures of several objects with two captions each, wrong captions, and kinds of mistakes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.measure import Measure, results
from tercet.eval.result import Result
from tercet.eval.trust.null_models import random_text

ITEMS, DIM = 40, 8
KINDS = ("on", "under", "rare")
COLOURS, SHAPES = ("red", "orange", "blue", "green"), ("circle", "square", "star")
embed_text = random_text(DIM, seed=3)


def vector(text: str) -> Tensor:
    return F.normalize(embed_text([text])[0].float(), dim=0)


def thing(number: int) -> dict[str, str]:
    return {"colour": COLOURS[number % 4], "shape": SHAPES[number % 3], "size": ("small", "large")[number % 7 % 2]}


def meta(item: int) -> dict[str, Any]:
    kinds = ["rare"] if item == 5 else [KINDS[item % 2], KINDS[(item + 1) % 2]][: 1 + item % 3 % 2]
    return {
        "negatives": [{"kind": kind, "text": f"{kind} {item} is wrong"} for kind in kinds],
        "pair": f"pair {item // 2}",
        "kind": ("Object", "Relation")[item // 2 % 2],
        "objects": [thing(item), thing(3 * item + 1), thing(5 * item + 2)][: 2 + item % 2],
    }


def table(items: int = ITEMS, captions: int = 2) -> EmbeddingTable:
    """Pictures that are near their captions, of which each has two."""
    texts = [(f"the man on the horse number {n}", f"a small dog and a red ball near {n}") for n in range(items)]
    samples = tuple(Sample(str(n), n, n // 2, text=texts[n][:captions], meta=meta(n)) for n in range(items))
    text = torch.stack([vector(caption) for own in texts for caption in own[:captions]])
    noise = torch.randn(items, DIM, generator=torch.Generator().manual_seed(1))
    image = F.normalize(text[::captions] + 0.4 * noise, dim=1)
    item = {"image": torch.arange(items), "text": torch.arange(items).repeat_interleave(captions)}
    return EmbeddingTable({"image": image, "text": text}, item, samples)


def by_name(measures: list[Measure]) -> dict[str, Result]:
    return {result.name: result for result in results(measures)}
