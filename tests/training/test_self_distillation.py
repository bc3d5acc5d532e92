"""Runs of SILC: the teacher averages the student and its projector, at every ZeRO stage and on two processes."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.encoders.encoder import Encoded
from tercet.models.encoders.small import SmallImage
from tercet.models.losses.objective import build_term
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.projector import check_prototypes
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.loop.step import Step, Taken
from tercet.training.memory.momentum import Momentum
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, assert_same_run, losses, recipe, run, saved

STEPS, DECAY, K, NAME = 3, (0.6, 1.0), 12, "image.global@local"
STAGES = {1: (0, 3), 2: (0, 1, 2, 3)}  # by processes. One has no stages: it runs without chunks, and with them
SILC: dict[str, Any] = {
    "model": {name: MODEL[name] for name in ("dim", "image", "text")},
    "fields": {
        "image.global": {"from": "image", "rows": 2, "crop": [0.4, 1.0]},
        "image.local": {"from": "image", "rows": 3, "crop": [0.05, 0.4], "size": 16},
    },
    "memories": {"momentum": {"decay": DECAY[0], "last": DECAY[1]}},
    "terms": [
        {"between": ["image.global", "text"]},
        {
            "name": "local",
            "between": ["image.local", "momentum.image.global"],
            "objective": "self_distillation",
            "projector": {"layers": 2, "hidden": 24, "dim": 8, "prototypes": K},
        },
    ],
    "steps": STEPS,
    "batch_size": 8,
    "ema": None,
}


def silc(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = recipe(data, out, **{**SILC, **changes})
    del values["pairs"]
    return values


def whole(step: Step) -> dict[str, Tensor]:
    return {name: value.clone().double() for name, value in step.engine.weights()}


def faults(world: World, data: Path, out: Path) -> list[str]:
    """What is wrong with the teacher of runs at every ZeRO stage."""
    found = []
    for zero in STAGES[world.size]:
        values = silc(data, out / str(zero), zero=zero, micro_batch=3 if zero == 3 else None)
        found += [f"ZeRO-{zero}, {fault}" for fault in watched(world, values)]
    return found


def watched(world: World, values: dict[str, Any]) -> list[str]:
    config, call = RunConfig.model_validate(values), Step.__call__
    teacher = build_model(config.model, config.terms, 7).eval()
    expected: dict[str, Tensor] = {}
    found = []

    def step(self: Step, batch: Batch, number: int) -> Taken:
        memory = self.memories.by_name["momentum"]
        assert isinstance(memory, Momentum)
        if not expected:
            expected.update(whole(self))
        teacher.load_state_dict({name: mean.float() for name, mean in expected.items()})
        taken = call(self, batch, number)
        decay = DECAY[1] - (DECAY[1] - DECAY[0]) * (1 + math.cos(math.pi * number / STEPS)) / 2
        for name, value in whole(self).items():
            expected[name] = decay * expected[name] + (1 - decay) * value
        wrong = [*wrong_rows(teacher, batch, taken), *wrong_weights(memory, expected)]
        found.extend(f"step {number}: {fault}" for fault in wrong)
        return taken

    with patch.object(Step, "__call__", step):
        run(world, values)
    return found


def wrong_rows(teacher: Multimodal, batch: Batch, taken: Taken) -> Iterator[str]:
    if not taken.stepped.applied:
        yield "was not applied"
    rows = taken.outcome.frozen[f"momentum.{NAME}"]
    if len(rows) != len(batch.fields["image.global"]) or rows.own != slice(0, len(rows)):
        yield "the teacher's rows are not those of this rank alone"
    with torch.no_grad():
        own = teacher.embed_by(batch.fields["image.global"], ["local"])["local"]
    if own.shape[1] != K or not torch.allclose(rows.z_Nd, own, atol=1e-5):
        yield "the teacher's outputs are not those of the averaged weights"
    if any(name.startswith("momentum") for name in taken.outcome.rows):
        yield "the teacher has a gradient"
    if not taken.outcome.rows["image.local@local"].abs().sum() > 0:
        yield "the student has no gradient"


def wrong_weights(memory: Momentum, expected: dict[str, Tensor]) -> Iterator[str]:
    copy = memory.model.state_dict()
    for name, mean in expected.items():
        if not name.startswith("head.temperatures") and (copy[name] - mean).abs().max() > 1e-6:
            yield f"`{name}` of the teacher is not the average"
    if not {"head.projectors.local.prototypes", "head.projectors.local.mlps.image.0.weight"} <= memory.means.keys():
        yield "the projector is not averaged"
    if any(parameter.requires_grad or parameter.grad is not None for parameter in memory.model.parameters()):
        yield "weights of the teacher have a gradient"


def centre(out: Path) -> Tensor:
    return saved(out)["memory/averages-local/centre"]


def test_the_teacher_is_the_average_on_any_number_of_processes(world_folder: Path, tmp_path: Path) -> None:
    for ranks in (1, 2):
        assert on_ranks(faults, ranks, world_folder, tmp_path / str(ranks)) == [[]] * ranks
    runs = [tmp_path / str(ranks) / str(zero) for ranks, stages in STAGES.items() for zero in stages]
    for one in runs[1:]:
        assert losses(one) == pytest.approx(losses(runs[0]), rel=1e-4)
        torch.testing.assert_close(centre(one), centre(runs[0]), rtol=1e-3, atol=1e-5)
    assert centre(runs[0]).shape == (K,)
    assert "information" in (runs[0] / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("ranks", "zero"), [(1, 0), pytest.param(2, 3, marks=pytest.mark.long)])
def test_a_resumed_run_is_bit_equal(world_folder: Path, tmp_path: Path, ranks: int, zero: int) -> None:
    """Also its centre and the average of its projector."""
    whole_run = silc(world_folder, tmp_path / "whole", zero=zero, steps=4)
    parts = silc(world_folder, tmp_path / "parts", zero=zero, steps=4, checkpoint={"every": 2})
    on_ranks(run_all, ranks, [(whole_run, None), (parts, 2), (parts, None)])
    kept = assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert "memory/momentum/head.projectors.local.prototypes" in kept
    assert kept["memory/averages-local/centre"].abs().sum() > 0


def test_only_the_teachers_field_runs_through_the_average(world_folder: Path, tmp_path: Path) -> None:
    """The passes of a step: what the student trains on, and the teacher's crops without a gradient."""
    (passes,) = on_ranks(passes_of_a_step, 1, silc(world_folder, tmp_path, steps=1))
    assert passes == {"trained": {16: 3 * 8, 32: 2 * 8}, "average": {32: 2 * 8}}


def passes_of_a_step(world: World, values: dict[str, Any]) -> dict[str, dict[int, int]]:
    """How many pictures of each side went through the image tower, by whether it was in training mode."""
    found: dict[str, dict[int, int]] = {"trained": {}, "average": {}}
    forward = SmallImage.tokens

    def tokens(self: SmallImage, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        if len(values) > 1:  # not a check of sizes
            of = found["trained" if self.training else "average"]
            of[values.shape[-1]] = of.get(values.shape[-1], 0) + len(values)
        return forward(self, values, lengths)

    with patch.object(SmallImage, "tokens", tokens):
        run(world, {**values, "eval": {"tasks": []}})
    return found


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"between": ["image.local", "image.global"]}, "needs a field and one of a momentum encoder, in this order"),
        ({"objective": "infonce"}, "terms.local.projector.prototypes: `infonce` of the term `local` compares vectors"),
    ],
)
def test_mistakes_are_errors_of_one_line(term: dict[str, Any], message: str) -> None:
    config = RunConfig.model_validate(
        silc(Path("shards"), Path("out"), terms=[SILC["terms"][0], {**SILC["terms"][1], **term}])
    )
    with pytest.raises(UserError) as caught:
        check_prototypes(config.terms[1], build_term(config.terms[1]), config.terms)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
