"""Runs whose terms compare tokens: gathered, cached, sharded, resumed, and refused if a tower has none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field
from tercet.errors import UserError
from tercet.modality import field_of, tokens_of
from tercet.models.config import ModelConfig
from tercet.models.encoders.encoder import Encoder
from tercet.models.encoders.small import SmallText
from tercet.models.multimodal import build_model, check_trainable
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, losses, recipe, saved

SEQUENCE = {"between": ["audio", "text"], "objective": {"name": "sequence", "points": 6, "anchors_at_once": 5}}
TERMS = [
    SEQUENCE,
    {"between": ["audio.again", "text"], "objective": {"name": "segment_attention", "segments": 3}, "weight": 0.5},
    {"name": "plain", "between": ["audio", "text"]},
    {"between": ["image", "text"], "objective": {"name": "sequence", "distance": "dtw"}, "weight": 0.3},
]
LEARNED = {"fields": {"audio.again": {"from": "audio"}}, "pairs": {}, "terms": TERMS}


def tokens_recipe(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return recipe(data, out, **{"steps": 5, **LEARNED, **changes})


@pytest.mark.parametrize(("world", "zero"), [(1, 0), pytest.param(2, 3, marks=pytest.mark.long)])
def test_resumed_runs_are_bit_equal(world_folder: Path, tmp_path: Path, world: int, zero: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    changes = {"zero": zero, "micro_batch": 3}
    in_parts = tokens_recipe(world_folder, parts, checkpoint={"every": 2}, **changes)
    on_ranks(run_all, world, [(tokens_recipe(world_folder, whole, **changes), None), (in_parts, 3), (in_parts, None)])
    first, second = saved(whole), saved(parts)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert losses(whole) == losses(parts)
    assert len(losses(whole)) == 5


def test_processes_chunks_and_zero_stages_do_not_change_the_losses(world_folder: Path, tmp_path: Path) -> None:
    """With sounds missing, and captions whose longest one differs between chunks and processes."""
    ways = {"plain": (1, 0, None), "cached": (1, 0, 5), "two": (2, 0, None), "sharded": (2, 3, 3)}
    for world in (1, 2):
        jobs = [
            (tokens_recipe(world_folder, tmp_path / name, zero=zero, micro_batch=micro_batch), None)
            for name, (processes, zero, micro_batch) in ways.items()
            if processes == world
        ]
        on_ranks(run_all, world, jobs)
    expected = losses(tmp_path / "plain")
    assert expected[0] - expected[-1] > 0.05, "nothing was learned, so nothing was compared"
    for name in ways:
        assert losses(tmp_path / name) == pytest.approx(expected, rel=2e-5), name


def model_of(*terms: dict[str, Any]) -> Any:
    config = ModelConfig.model_validate(MODEL)
    return build_model(config, [TermConfig.model_validate(term) for term in terms], seed=0)


def batch_of(texts: list[str], model: Any) -> Batch:
    items = torch.arange(len(texts))
    sounds = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    fields = {
        "audio": Field("audio", sounds, torch.tensor([0, 2]), torch.tensor([8000, 3000])),
        "text": Field("text", model.intakes["text"].tokenize(texts), items),
    }
    return Batch(items, items, fields)


def test_tokens_are_unit_vectors_in_the_joint_space_and_their_mean_points_to_the_vector() -> None:
    """The head of the small towers is linear, so the vector of a row is the direction of the mean of its tokens."""
    model = model_of(SEQUENCE).eval()
    batch = batch_of(["a red ball", "one", "two small blue cubes left of a ring"], model)
    vectors, _ = model(batch)
    assert set(vectors) == {"audio", "audio tokens", "text", "text tokens"}
    with torch.no_grad():
        plain, _ = model_of({"between": ["audio", "text"]}).eval()(batch)
    for name in ("audio", "text"):
        torch.testing.assert_close(vectors[name], plain[name])
        norms = vectors[tokens_of(name)].norm(dim=2)
        counts = (norms > 0).sum(1).tolist()
        assert counts == {"audio": [7, 3], "text": [4, 2, 9]}[name]
        for row, count in enumerate(counts):
            torch.testing.assert_close(norms[row, :count], torch.ones(count))
            assert not norms[row, count:].any()
    features = model.tower("text").tokens(batch.fields["text"].values)
    for row, count in enumerate(features.counts.tolist()):
        mean = model.head("text", features.tokens[row, :count].mean(0)[None])
        torch.testing.assert_close(mean[0], vectors["text"][row])


def test_padding_gets_no_gradient() -> None:
    model = model_of(SEQUENCE)
    encoded = model.tower("text").tokens(batch_of(["a red ball", "one"], model).fields["text"].values)
    leaf: Tensor = encoded.tokens.detach().requires_grad_()
    model.head.tokens("text", leaf, encoded.counts).square().sum().backward()
    assert leaf.grad is not None
    assert not leaf.grad[1, 2:].any()


def test_a_tower_without_tokens_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallText, "tokens", Encoder.tokens)
    config = ModelConfig.model_validate(MODEL)
    with pytest.raises(UserError, match=r"model.text.encoder: this tower has no tokens, only one vector for each row"):
        check_trainable(model_of(SEQUENCE), config)
    check_trainable(model_of({"between": ["audio", "text"]}), config)
    assert field_of("text.negative tokens") == "text.negative"
