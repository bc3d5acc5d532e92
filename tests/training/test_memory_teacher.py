"""A teacher embeds the batches of a run as its own model does, on one rank and two, and is no part of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from tercet.configs.base import build
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.folder import export_folder
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.memory.teacher import check_intakes
from tercet.training.preflight.checks import ready
from tercet.training.pretrained import load_model
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, losses, recipe, run, saved

TERMS = [
    {"between": ["image", "text"], "objective": {"name": "soft"}, "references": {"teacher": "large"}},
    {"between": ["audio", "text.other"], "objective": {"name": "soft"}, "references": {"teacher": "large"}},
    {
        "name": "guided",
        "between": ["image", "text"],
        "objective": {"name": "infonce", "margin": 0.02},
        "references": {"guide": "large"},
    },
]
FIELDS = {"text.other": {"from": "text", "rows": 2}}


def space(**changes: Any) -> SpaceConfig:
    values = {"model": {**MODEL, "dim": 24, **changes}, "pairs": {"image-text": 1, "audio-text": 1}}
    return build(SpaceConfig, values, lambda key: "teacher")


def exported(folder: Path, seed: int = 5, **changes: Any) -> Path:
    """A model with weights of its own, in a space of other dimensions."""
    config = space(**changes)
    return export_folder(build_model(config.model, config.terms, seed), config, folder)


def taught(data: Path, out: Path, teacher: Path, **changes: Any) -> dict[str, Any]:
    more = {"terms": TERMS, "fields": FIELDS, "memories": {"large": {"kind": "teacher", "model": str(teacher)}}}
    values = recipe(data, out, **{"steps": 6, **more, **changes})
    del values["pairs"]
    return values


def watched(world: World, values: dict[str, Any], teacher: Path) -> list[str]:
    """What is wrong with the vectors that each step was offered, or with the loss of the first term."""
    model, call, faults = load_model(str(teacher)), Terms.__call__, []

    def look(self: Terms, batch: Batch, vectors: dict[str, Tensor], t: Any, w: World, known: Known, step: int) -> Any:
        outcome = call(self, batch, vectors, t, w, known, step)
        faults.extend(wrong_rows(model.embed(batch), outcome, known, w))
        if world.size == 1:
            rows = vectors, model.embed(batch)
            for name, naive in (("image-text", naive_soft), ("guided", naive_guided)):
                expected = naive(*rows, t[name][0], batch.groups)
                if abs(expected - float(outcome.losses[name])) > 1e-5:
                    faults.append(f"step {step}: the loss of {name}")
        return outcome

    with patch.object(Terms, "__call__", look):
        run(world, values)
    return faults


def wrong_rows(own: Mapping[str, Tensor], outcome: Outcome, known: Known, world: World) -> list[str]:
    found = []
    if known.frozen.keys() != {"large.image", "large.text", "large.audio", "large.text.other"}:
        found.append(f"offered are {sorted(known.frozen)}")
    for name, rows in outcome.gathered.items():
        offered = known.frozen[f"large.{name}"]
        if not torch.equal(offered.item_N, rows.item_N) or not torch.equal(offered.id_N, rows.id_N):
            found.append(f"rows of {name} are those of other items")
        mine = offered.z_Nd[offered.own]
        if len(mine) and not torch.allclose(mine, own[name], atol=1e-5):
            found.append(f"vectors of {name} are not those of the model on rank {world.rank}")
    return found


def naive_soft(vectors: Mapping[str, Tensor], taught: Mapping[str, Tensor], scale: Tensor, groups: Tensor) -> float:
    """Half of the target is the positive, and half the teacher's softmax, at the objective's temperature of 0.05."""
    closed = groups[:, None].eq(groups) & ~torch.eye(len(groups), dtype=torch.bool)
    logits = (scale * vectors["image"] @ vectors["text"].T).masked_fill(closed, -1e4)
    cosines = (taught["image"] @ taught["text"].T / 0.05).masked_fill(closed, -torch.inf)
    target = [(torch.eye(len(groups)) + softmax(one, dim=1)) / 2 for one in (cosines, cosines.T)]
    return float(sum(cross_entropy(one, t) for one, t in zip((logits, logits.T), target, strict=True)) / 2)


def test_the_vectors_are_those_of_the_model_on_any_number_of_ranks(world_folder: Path, tmp_path: Path) -> None:
    """A fifth of the scenes have no sound, and micro-batches change nothing."""
    teacher = exported(tmp_path / "teacher")
    for world, zero, micro_batch in ((1, 0, None), (2, 3, 3)):
        values = taught(world_folder, tmp_path / str(world), teacher, zero=zero, micro_batch=micro_batch)
        assert on_ranks(watched, world, values, teacher) == [[]] * world
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)


def naive_guided(vectors: Mapping[str, Tensor], guide: Mapping[str, Tensor], scale: Tensor, groups: Tensor) -> float:
    """A key does not repel if the guide finds it more similar than the own key less the margin."""
    closed, own = groups[:, None].eq(groups), torch.eye(len(groups), dtype=torch.bool)
    logits, cosines = scale * vectors["image"] @ vectors["text"].T, guide["image"] @ guide["text"].T
    total = 0.0
    for one, seen in ((logits, cosines), (logits.T, cosines.T)):
        mask = (closed | (seen > seen.diagonal()[:, None] - 0.02)) & ~own
        total += float(cross_entropy(one.masked_fill(mask, -torch.inf), torch.arange(len(one)))) / 2
    return total


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_resumed_run_is_bit_equal_and_saves_no_teacher(world_folder: Path, tmp_path: Path, world: int) -> None:
    teacher = exported(tmp_path / "teacher")
    whole = taught(world_folder, tmp_path / "whole", teacher)
    parts = taught(world_folder, tmp_path / "parts", teacher, checkpoint={"every": 2})
    on_ranks(run_all, world, [(whole, None), (parts, 3), (parts, None)])
    one, two = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    (kept,) = (name for name in one if name.startswith("memory/large/"))
    assert kept.startswith("memory/large/fingerprint-")
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    model = load_model(str(tmp_path / "whole"))  # needs no teacher
    assert model.head.dim == 16


def refusal(world: World, values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        run(world, values)
    return str(caught.value)


def test_a_teacher_that_changed_is_refused_on_resume(world_folder: Path, tmp_path: Path) -> None:
    teacher = exported(tmp_path / "teacher")
    values = taught(world_folder, tmp_path / "run", teacher, checkpoint={"every": 2})
    on_ranks(run_all, 1, [(values, 3)])
    exported(teacher, seed=6)
    (message,) = on_ranks(refusal, 1, values)
    assert message == (
        f"memories.large.model: {teacher} has other weights than when this run began; restore those weights, or start "
        "a new run with out=…"
    )


def fields(model: Multimodal) -> dict[str, FieldSpec]:
    return {name: FieldSpec(name, intake) for name, intake in model.intakes.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {**MODEL["image"], "size": 48}}, "takes pictures of 48 × 48 pixels, not the 32 × 32 of `image`"),
        ({"text": {**MODEL["text"], "options": {"width": 32, "heads": 2, "context": 12}}}, "has another tokenizer or"),
        ({"audio": {**MODEL["audio"], "features": "ast16k128"}}, ""),
        ({"audio": {**MODEL["audio"], "seconds": 2.0}}, ""),
    ],
)
def test_other_input_is_refused(changes: dict[str, Any], message: str) -> None:
    """Features and lengths of sounds may differ, because a tower gets waveforms of any length."""
    mine, theirs = (build_model(one.model, one.terms, 0) for one in (space(), space(**changes)))
    if not message:
        check_intakes("memories.large.model: runs/ref", theirs, fields(mine))
        return
    with pytest.raises(UserError, match=f"^memories.large.model: runs/ref {message}.*; use a model with the input"):
        check_intakes("memories.large.model: runs/ref", theirs, fields(mine))


def test_a_teacher_without_a_tower_is_refused() -> None:
    mine = build_model(space().model, space().terms, 0)
    narrow = build(
        SpaceConfig, {"model": {k: v for k, v in MODEL.items() if k != "audio"}, "pairs": {"image-text": 1}}, str
    )
    theirs = build_model(narrow.model, narrow.terms, 0)
    with pytest.raises(UserError, match="runs/ref has no audio tower, which `audio` needs; use another model"):
        check_intakes("runs/ref", theirs, fields(mine))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memories": {"large": {"kind": "teacher"}}}, "`memories.large.model` is missing: the MODEL"),
        (
            {"memories": {"large": {"kind": "teacher", "model": "runs/none"}}},
            "memories.large.model: there is no model `runs/none`",
        ),
        (
            {"memories": {"large": {"kind": "queue", "fields": ["text"]}}},
            "`terms.image-text.references.teacher` is `large`, but no memory of this name embeds the rows",
        ),
        ({"memories": {"larg": {"kind": "teacher", "model": "runs/none"}}}, "did you mean `larg`"),
        ({"memories": {}}, r"the rows of a batch; add one, as memories: {large: {kind: teacher, model: …}}"),
        (
            {"terms": [{**TERMS[0], "objective": "infonce"}]},
            "terms.image-text.references: `infonce` uses no `teacher`; known: guide",
        ),
        (
            {"terms": [{**TERMS[0], "references": {"teach": "large"}}]},
            "terms.image-text.references: `soft` needs `teacher`; name the vectors to use",
        ),
    ],
)
def test_mistakes_are_errors_of_one_line(
    world_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = taught(world_folder, tmp_path / "run", exported(tmp_path / "teacher"), **changes)
    with pytest.raises(UserError) as caught:
        ready(build(RunConfig, values, lambda key: "recipe"), OpenedSources())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
