"""The same negatives as `mine_hard_negatives` of sentence-transformers, on the same vectors."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.training.mining.config import MiningConfig
from tercet.training.mining.nearest import NONE, Nearest, Piece, own_scores
from tercet.training.mining.rules import Candidates, choose

datasets = pytest.importorskip("datasets")
peer = pytest.importorskip("sentence_transformers.util.hard_negatives")

SAMPLES, DIMS = 300, 32
OPTIONS: list[dict[str, Any]] = [
    {"range_max": 10},
    {"range_min": 7, "range_max": 30, "num_negatives": 5},
    {"range_max": 60, "relative_margin": 0.05, "num_negatives": 5},
    {"range_max": 60, "absolute_margin": 0.1},
    {"range_max": 100, "max_score": 0.4, "min_score": 0.3, "num_negatives": 10},
    {"range_max": 100, "max_score": 0.5, "relative_margin": 0.2, "absolute_margin": 0.05, "num_negatives": 10},
]


class Encoder:
    """Anchors are named q0, q1, …, and their positives d0, d1, …."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.anchor_ND = normalize(torch.randn(SAMPLES, DIMS, generator=draw), dim=1)
        noise_ND = normalize(torch.randn(SAMPLES, DIMS, generator=draw), dim=1)
        self.positive_ND = normalize(self.anchor_ND + 2 * torch.rand(SAMPLES, 1, generator=draw) * noise_ND, dim=1)

    def encode_query(self, texts: list[str], **options: Any) -> Any:
        return self.anchor_ND[[int(text[1:]) for text in texts]].numpy()

    def encode_document(self, texts: list[str], **options: Any) -> Any:
        return self.positive_ND[[int(text[1:]) for text in texts]].numpy()

    def similarity(self, one: Any, other: Any) -> Tensor:
        return torch.as_tensor(one) @ torch.as_tensor(other).T

    def similarity_pairwise(self, one: Any, other: Any) -> Tensor:
        return (torch.as_tensor(one) * torch.as_tensor(other)).sum(dim=1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_negatives_and_scores_equal_those_of_the_peer(options: dict[str, Any]) -> None:
    encoder, id_n = Encoder(), np.arange(SAMPLES)
    pairs = {"anchor": [f"q{number}" for number in id_n], "positive": [f"d{number}" for number in id_n]}
    table = datasets.Dataset.from_dict(pairs)
    shown = {"output_format": "labeled-list", "output_scores": True, "verbose": False}
    theirs = {row["anchor"]: row for row in peer.mine_hard_negatives(table, encoder, **shown, **options)}

    config = MiningConfig(**options)
    queries = Piece(id_n, encoder.anchor_ND, torch.arange(SAMPLES), {})
    candidates = Piece(id_n, encoder.positive_ND, torch.arange(SAMPLES), {})
    nearest = Nearest(queries, config.depth, torch.device("cpu"))
    nearest.add(candidates)
    found, own_q = nearest.found(), own_scores(queries, candidates)
    ours = choose(Candidates(id_n, found.id_qk, found.score_qk, own_q), config)
    for number in range(SAMPLES):
        there = ours.id_qK[number] != NONE
        row = theirs.get(f"q{number}", {"positive": [f"d{number}"], "scores": [float(own_q[number])]})
        assert [f"d{other}" for other in ours.id_qK[number][there]] == row["positive"][1:]
        assert [own_q[number], *ours.score_qK[number][there]] == pytest.approx(row["scores"], abs=1e-6)
