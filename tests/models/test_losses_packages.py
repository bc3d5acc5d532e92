"""Losses and gradients equal those of other packages, where both define the same."""

from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss
from sentence_transformers.sentence_transformer.losses import (
    GISTEmbedLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from symile import Symile
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast

from tercet.distributed import World
from tercet.models.losses import build_term
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig, TermConfig

ITEMS, DIM, CAPTIONS, SCALE = 9, 12, 3, 20.0
ONE_WAY = {"image": 1.0, "text": 0.0}
BOTH = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


class Given(nn.Module):
    """A model of sentence-transformers that returns vectors which it is given."""

    def __init__(self, name: str = "vectors") -> None:
        super().__init__()
        self.name, self.max_seq_length = name, 8
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0})))

    def get_embedding_dimension(self) -> int:
        return DIM

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features[self.name]}


def unit(rows: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, DIM, generator=random, dtype=torch.float64), dim=1).requires_grad_()


def assert_same_loss(theirs: Tensor, vectors: dict[str, Tensor], problem: Problem, **options: object) -> None:
    """Their loss equals that of our objective, and their gradients do where they move unit vectors."""
    term = TermConfig(between=tuple(problem.fields), objective=ObjectiveConfig.model_validate(options))
    found = build_term(term).solve(problem)
    torch.testing.assert_close(found.loss, theirs, rtol=0, atol=1e-9)
    for (name, z_Nd), slope_Nd in zip(
        vectors.items(), torch.autograd.grad(theirs, list(vectors.values())), strict=True
    ):
        torch.testing.assert_close(tangent(found.rows[name], z_Nd), tangent(slope_Nd, z_Nd), rtol=0, atol=1e-9)


def tangent(slope_Nd: Tensor, z_Nd: Tensor) -> Tensor:
    return slope_Nd - (slope_Nd * z_Nd).sum(dim=1, keepdim=True) * z_Nd


def problem_of(vectors: dict[str, Tensor]) -> Problem:
    """The rows of a field belong to the items in order, equally many to each."""
    fields = {}
    for name, z_Nd in vectors.items():
        item_N = torch.arange(len(z_Nd)) // (len(z_Nd) // ITEMS)
        fields[name] = Rows(z_Nd.detach(), slice(0, len(z_Nd)), item_N, item_N, item_N)
    return Problem(fields, torch.tensor(SCALE, dtype=torch.float64), None, 4, World())


def test_infonce_is_the_symmetric_loss_of_sentence_transformers_and_ntxent_of_pytorch_metric_learning() -> None:
    z = {"image": unit(ITEMS, 0), "text": unit(ITEMS, 1)}
    ranking = MultipleNegativesRankingLoss(Given(), scale=SCALE, **BOTH)
    assert_same_loss(
        ranking.compute_loss_from_embeddings(list(z.values()), torch.tensor(0)), z, problem_of(z), name="infonce"
    )
    assert_same_loss(both(NTXentLoss(temperature=1 / SCALE), z), z, problem_of(z), name="infonce")


@pytest.mark.parametrize(("positives", "theirs"), [("together", SupConLoss), ("apart", NTXentLoss)])
def test_several_positives_are_those_of_pytorch_metric_learning(positives: str, theirs: type[nn.Module]) -> None:
    z = {"image": unit(ITEMS, 0), "text": unit(CAPTIONS * ITEMS, 1)}
    assert_same_loss(
        both(theirs(temperature=1 / SCALE), z), z, problem_of(z), name="multi_positive", positives=positives
    )


def both(loss: nn.Module, z: dict[str, Tensor]) -> Tensor:
    image, text = z.values()
    one, other = (torch.arange(len(side)) // (len(side) // ITEMS) for side in (image, text))
    total: Tensor = loss(image, one, ref_emb=text, ref_labels=other) + loss(text, other, ref_emb=image, ref_labels=one)
    return total / 2


@pytest.mark.parametrize("mode", ["in_batch_negatives", "hard_negatives", "all_negatives"])
def test_hardness_is_that_of_sentence_transformers(mode: str) -> None:
    z = {"image": unit(ITEMS, 0), "text": unit(ITEMS, 1), "text.negative": unit(ITEMS, 2)}
    ranking = MultipleNegativesRankingLoss(Given(), scale=SCALE, hardness_mode=mode, hardness_strength=4.0)
    theirs = ranking.compute_loss_from_embeddings(list(z.values()), torch.tensor(0))
    whole = problem_of(z)
    negative = whole.fields["text.negative"].negatives(declared=True)
    fields = {name: whole.fields[name] for name in ("image", "text")}
    problem = replace(whole, fields=fields, against={"image": {"text.negative": negative}}, shares=ONE_WAY)
    assert_same_loss(theirs, z, problem, name="infonce", hardness_mode=mode, hardness_strength=4.0)


@pytest.mark.parametrize("strategy", ["absolute", "relative"])
def test_a_guide_masks_what_it_masks_in_sentence_transformers(strategy: str) -> None:
    z, guide = ({"image": unit(ITEMS, seed), "text": unit(ITEMS, seed + 1)} for seed in (0, 5))
    features = [{"vectors": z[name], "guide": guide[name].detach()} for name in z]
    gist = GISTEmbedLoss(Given(), Given("guide"), 1 / SCALE, strategy, 0.1, False, False)
    whole = problem_of(z)
    fields = {name: replace(rows, extra={"guide": guide[name].detach()}) for name, rows in whole.fields.items()}
    problem = replace(whole, fields=fields, shares=ONE_WAY)
    assert_same_loss(gist(features, torch.tensor(0)), z, problem, name="infonce", margin=0.1, margin_strategy=strategy)


def test_matryoshka_is_that_of_sentence_transformers() -> None:
    z, model = {"image": unit(ITEMS, 0), "text": unit(ITEMS, 1)}, Given()
    nested = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=SCALE, **BOTH), [3, DIM], [0.5, 1.0])
    theirs = nested([{"vectors": z_Nd} for z_Nd in z.values()], torch.tensor(0))
    assert_same_loss(
        theirs, z, problem_of(z), name="matryoshka", of={"name": "infonce"}, dims=[3, DIM], weights=[0.5, 1.0]
    )


@pytest.mark.parametrize("names", [("image", "text", "audio"), ("image", "text", "audio", "text.rewrite")])
def test_symile_is_that_of_its_package(names: tuple[str, ...]) -> None:
    z = {name: unit(ITEMS, seed) for seed, name in enumerate(names)}
    theirs = Symile("n_squared")(list(z.values()), torch.tensor(SCALE, dtype=torch.float64))
    assert_same_loss(theirs, z, problem_of(z), name="symile", negatives="n_squared")
