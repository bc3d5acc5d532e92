"""Memories of a run at every ZeRO stage: the queue is a plain list, and a skipped step changes none of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Outcome
from tercet.testing import on_ranks
from tercet.training.loop.step import Step, Taken
from tercet.training.memory.memories import Memories
from tests.training.tiny import losses, recipe, run, saved

SIZE, STEPS, BROKEN = 40, 6, 3  # 40 rows are two and a half batches
START = 2  # applied steps before the queue offers its rows
TERMS = [
    {"between": ["image", "text"], "against": {"text": ["queue.image"], "image": ["queue.text"]}},
    {"between": ["audio", "text"], "against": {"text": ["queue.audio"]}},
]
MEMORIES = {
    "queue": {"fields": ["image", "text", "audio"], "size": SIZE, "start": START},
    "cartography": {"term": "audio-text"},
}


def remembering(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = recipe(data, out, terms=TERMS, memories=MEMORIES, steps=STEPS, **changes)
    del values["pairs"]
    return values


@dataclass
class Watch:
    """What memories offered before every step, what came of it, and what they held after it."""

    offered: list[dict[str, Rows]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)


@contextmanager
def watched(broken: int) -> Iterator[Watch]:
    """Of one step the gradient, though not the loss, is not finite on the last rank."""
    watch, known, call, surrogate = Watch(), Memories.known, Step.__call__, Step._surrogate

    def offer(self: Memories, batch: Any) -> Known:
        found = known(self, batch)
        watch.offered.append(dict(found.frozen))
        return found

    def step(self: Step, batch: Any, number: int) -> Taken:
        taken = call(self, batch, number)
        watch.outcomes.append(taken.outcome)
        watch.states.append({one.name: one.value.clone() for one in self.memories.state()})
        return taken

    def spoil(self: Step, *parts: Any) -> Tensor:
        spoilt = len(watch.outcomes) == broken and self.world.rank == self.world.size - 1
        return surrogate(self, *parts) * (torch.nan if spoilt else 1.0)

    with (
        patch.object(Memories, "known", offer),
        patch.object(Step, "__call__", step),
        patch.object(Step, "_surrogate", spoil),
    ):
        yield watch


def faults(world: World, data: Path, out: Path) -> list[str]:
    """What went wrong in runs at every ZeRO stage, one step of which is skipped. One process has no stages."""
    found = []
    for zero in (0, 1, 2, 3) if world.size > 1 else (0, 1):
        with watched(BROKEN) as watch:
            run(world, remembering(data, out / str(zero), zero=zero, micro_batch=5 if zero == 1 else None))
        found += [f"ZeRO-{zero}, {fault}" for fault in (*queue_faults(watch), *state_faults(watch))]
    return found


def queue_faults(watch: Watch) -> Iterator[str]:
    """Against a list of all rows that applied steps have brought."""
    brought: dict[str, list[Any]] = {"image": [], "text": [], "audio": []}
    assert len(watch.offered) == len(watch.outcomes) == STEPS
    applied = 0
    for number, (vectors, outcome) in enumerate(zip(watch.offered, watch.outcomes, strict=True)):
        for name, rows in brought.items():
            found = vectors[f"queue.{name}"]
            expected = rows[-SIZE:] if applied >= START else []
            if [*zip(found.id_N.tolist(), found.group_N.tolist(), found.z_Nd.tolist(), strict=True)] != expected:
                yield f"step {number}: queue.{name} holds other rows"
            if {*found.item_N.tolist()} > {-1} or len(found.z_Ad):
                yield f"step {number}: queue.{name} has rows of items or ranks"
            if number != BROKEN:
                new = outcome.gathered[name]
                rows += zip(new.id_N.tolist(), new.group_N.tolist(), new.z_Nd.tolist(), strict=True)
        applied += number != BROKEN


def state_faults(watch: Watch) -> Iterator[str]:
    for number in range(1, STEPS):
        before, after = watch.states[number - 1], watch.states[number]
        for memory in ("ema", "queue", "cartography"):
            names = [name for name in after if name.startswith(f"memory/{memory}/")]
            moved = any(not torch.equal(before[name], after[name]) for name in names)
            if not names or moved == (number == BROKEN):
                yield f"step {number}: {memory} {'changed' if moved else 'learned nothing'}"


def test_memories_change_only_in_steps_that_are_applied(world_folder: Path, tmp_path: Path) -> None:
    """The queue is the list of the last rows, on one rank and two, whatever the ZeRO stage."""
    for world in (1, 2):
        assert on_ranks(faults, world, world_folder, tmp_path / str(world)) == [[]] * world
    one, two = tmp_path / "1" / "0", tmp_path / "2" / "3"
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    kept = {name: value for name, value in saved(one).items() if name.startswith("memory/queue/")}
    assert len(kept) == 10
    for name, value in kept.items():
        torch.testing.assert_close(saved(two)[name], value, rtol=0, atol=1e-5, msg=name)


def offered(world: World, values: dict[str, Any]) -> list[int]:
    """How many images the queue has before each step."""
    with watched(broken=-1) as watch:
        run(world, values)
    return [len(rows["queue.image"].z_Nd) for rows in watch.offered]


def test_a_queue_is_emptied_when_sources_or_fields_change(world_folder: Path, tmp_path: Path) -> None:
    """It outlasts a stage that changes neither."""
    stages = [
        {"name": "first", "steps": 3},
        {"name": "slower", "steps": 2, "set": {"optimizer.lr": 1e-4, "batch_size": 8}},
        {"name": "other data", "steps": 2, "set": {"data.train": str(world_folder / "combinations")}},
        {"name": "other fields", "steps": 2, "set": {"pairs": {"audio-text": 0}}},
        {"name": "other crops", "steps": 2, "set": {"fields": {"image.part": {"from": "image", "crop": [0.2, 0.4]}}}},
    ]
    queue = {
        "memories": {"queue": {"fields": ["image"], "size": SIZE, "start": 0}},
        "fields": {"image.part": {"from": "image", "crop": [0.5, 1.0]}},
        "against": {"text": ["queue.image", "image.part"]},
    }
    values = recipe(world_folder, tmp_path / "run", stages=stages, pairs={"image-text": 1, "audio-text": 1}, **queue)
    del values["steps"]
    assert on_ranks(offered, 1, values) == [[0, 16, 32, 40, 40, 0, 16, 0, 16, 0, 16]]
