"""Embedding over ranks: their shares joined in the order of ids, and what is no number refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Batch, Field, Sample
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, embed, embed_prompts


class Doubling:
    """A model whose image embedding of item i is the direction of (1, i), and whose text embedding counts letters."""

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        return {name: torch.stack([torch.ones(len(rows)), rows.values], dim=1) * 2 for name, rows in batch}

    def embed_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[1.0, len(text)] for text in texts])


@dataclass
class Ranks:
    """Stands for a world of several ranks: what the others embedded is already known."""

    others: list[list[object]]

    def gather_objects(self, item: object) -> list[object]:
        return [*self.others, item]


def batch(ids: list[int], captions: int) -> Batch:
    """Images of even ids only; every item has so many captions."""
    even = [place for place, number in enumerate(ids) if number % 2 == 0]
    image = Field("image", torch.tensor([float(ids[place]) for place in even]), torch.tensor(even, dtype=torch.long))
    item = torch.arange(len(ids)).repeat_interleave(captions)
    text = Field("text", torch.tensor(ids, dtype=torch.float)[item], item)
    samples = tuple(Sample(f"k{number}", number, number, media={"audio": np.zeros(9, np.float32)}) for number in ids)
    return Batch(torch.tensor(ids), torch.tensor(ids), {"image": image, "text": text}, samples)


def share(batches: list[Batch]) -> list[object]:
    """What a rank hands to the gather."""
    seen: list[list[object]] = []

    class Listening:
        def gather_objects(self, item: list[object]) -> list[list[object]]:
            seen.append(item)
            return [item]

    embed(Doubling(), batches, Listening())
    return seen[0]


def test_ranks_with_uneven_shares_give_the_table_of_one_process() -> None:
    first, second, third = batch([40, 10, 30], 2), batch([0, 20], 2), batch([5], 2)
    alone = embed(Doubling(), [first, second, third], Ranks([]))
    together = embed(Doubling(), [third], Ranks([share([second, first])]))
    assert [sample.id for sample in alone.samples] == [0, 5, 10, 20, 30, 40]
    assert alone.items["image"].tolist() == [0, 2, 3, 4, 5]
    assert alone.items["text"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    expected = F.normalize(torch.tensor([[1.0, number] for number in (0, 10, 20, 30, 40)]), dim=1)
    assert torch.allclose(alone.vectors["image"], expected)
    assert all(sample.audio is None for sample in alone.samples)
    for modality in ("image", "text"):
        torch.testing.assert_close(together.vectors[modality], alone.vectors[modality])
        assert together.items[modality].equal(alone.items[modality])


def test_a_sample_that_two_ranks_embed_is_refused() -> None:
    with pytest.raises(EvalError, match="`k2` was embedded twice"):
        embed(Doubling(), [batch([1, 2], 1)], Ranks([share([batch([2, 3], 1)])]))


def test_data_without_a_modality_of_the_model_are_an_error() -> None:
    with pytest.raises(EvalError, match="no sample of the data has a modality that the model encodes"):
        embed(Doubling(), [], Ranks([]))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_refused_with_the_sample(broken: float) -> None:
    rows = torch.ones(3, 2)
    rows[1, 0] = broken
    samples = tuple(Sample(f"boat{number}", number, number) for number in range(3))
    with pytest.raises(EvalError, match="image embedding of sample `boat1`"):
        EmbeddingTable({"image": rows}, {"image": torch.arange(3)}, samples)
    with pytest.raises(EvalError, match="`b`"):
        embed_prompts(lambda texts: rows[: len(texts)], ["a", "b"])


def test_prompts_are_embedded_in_batches_and_normalised() -> None:
    texts = ["x" * length for length in range(1, 12)]
    expected = F.normalize(torch.tensor([[1.0, length] for length in range(1, 12)]), dim=1)
    assert torch.allclose(embed_prompts(Doubling().embed_text, texts, batch_size=4), expected)
