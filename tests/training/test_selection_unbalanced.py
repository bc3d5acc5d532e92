"""Selections of the best of all drawn samples: what is kept, and how processes even it out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import dry_run
from tercet.training.selection.exchange import exchange
from tercet.training.selection.jest import JestSelection
from tercet.training.selection.strata import WholeBatch
from tests.training.joint import ITEMS, Naive, rule, super_batch
from tests.training.test_resume import run_all
from tests.training.test_selection import kept_places, selected
from tests.training.tiny import losses, recipe

KEPT = {1: [1, 2, 3, 5, 8, 13, 21, 22], 2: [2, 16, 18, 19, 20, 22, 30, 31], 3: [24, 25, 26, 27, 28, 29, 30, 31]}


def whole_batch() -> Batch:
    """Some items lack a row, and some have several."""
    generator = torch.Generator().manual_seed(0)
    item_r = torch.tensor([item for item in range(ITEMS) for _ in range(item % 4)])
    text = Field(
        "text",
        torch.randint(9, (len(item_r), 3), generator=generator),
        item_r,
        number=torch.rand(len(item_r), generator=generator),
    )
    sound = torch.arange(0, ITEMS, 3)
    audio = Field("audio", torch.rand(len(sound), 5, generator=generator), sound, lengths=sound + 1)
    ids = torch.arange(100, 100 + ITEMS)
    return Batch(ids, ids // 2, {"text": text, "audio": audio}, values={"bad": torch.rand(ITEMS, generator=generator)})


def flat(batch: Batch) -> list[Any]:
    """All that a batch holds, in plain lists."""
    rows = {name: (field.values.tolist(), field.item.tolist()) for name, field in batch}
    lengths, numbers = batch.fields["audio"].lengths, batch.fields["text"].number
    assert lengths is not None
    assert numbers is not None
    items = [one.tolist() for one in (batch.ids, batch.groups, batch.values["bad"])]
    return [*items, rows, lengths.tolist(), numbers.tolist()]


def exchange_all(world: World, kept: dict[int, list[int]]) -> list[Any]:
    share, found = ITEMS // world.size, []
    for places in kept.values():
        own = torch.arange(world.rank * share, (world.rank + 1) * share)
        mine = torch.tensor([place for place in places if place in own], dtype=torch.int64)
        batch, place_k = exchange(whole_batch().items(mine), mine, len(places) // world.size, world)
        found.append((flat(batch), place_k.tolist()))
    return found


def test_each_rank_gets_its_share_of_the_kept_samples_in_order() -> None:
    for processes in (1, 2, 4):
        ranks = on_ranks(exchange_all, processes, KEPT)
        for number, places in enumerate(KEPT.values()):
            share = len(places) // processes
            for rank, found in enumerate(ranks):
                mine = places[rank * share : (rank + 1) * share]
                assert found[number] == (flat(whole_batch().items(torch.tensor(mine))), mine)


def choose(world: World, options: dict[str, Any]) -> tuple[list[int], int]:
    torch.set_num_threads(1)
    drawn, reference = super_batch(world, 4, 4)
    drawn = replace(drawn, strata=WholeBatch(1, 16, world))
    kept = rule(JestSelection(**options), reference).choose(drawn)
    return drawn.batch.ids[kept.places].tolist(), len(kept.places)


def test_joint_selection_takes_the_best_of_the_whole_super_batch_on_any_number_of_ranks() -> None:
    options = {"reference": "given", "reference_scale": "own", "n_chunks": 4, "gain": 2.0}
    expected = sorted(i for one in Naive("learnability", "softmax").chunks(1, 16, 4, 2.0, gumbel=True) for i in one)
    for processes in (1, 2, 4):
        ranks = on_ranks(choose, processes, options)
        assert [id for ids, _ in ranks for id in ids] == expected
    assert len({count for _, count in ranks}) > 1, "ranks keep different numbers"


def test_a_run_trains_on_the_same_samples_on_one_and_two_processes(world_folder: Path, tmp_path: Path) -> None:
    """Also when another run replays them."""
    selection = {"name": "random", "filter_ratio": 0.5, "balanced": False}
    for processes in (1, 2):
        values = recipe(world_folder, tmp_path / str(processes), steps=3, selection=selection, zero=processes)
        on_ranks(run_all, processes, [(values, None)])
    again = selection | {"name": "replay", "run": str(tmp_path / "2")}
    on_ranks(run_all, 2, [(recipe(world_folder, tmp_path / "again", steps=3, selection=again, zero=1), None)])
    assert selected(tmp_path / "1") == selected(tmp_path / "2") == selected(tmp_path / "again")
    for name in ("2", "again"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert any(sum(place < 16 for place in places) != 8 for places in kept_places(tmp_path / "1"))


def test_processes_even_out_the_samples_left_out_too(world_folder: Path, tmp_path: Path) -> None:
    """Those that the memory `unselected` offers as negatives."""
    selection = {"name": "random", "filter_ratio": 0.5, "balanced": False}
    changes = {"memories": {"unselected": {"fields": ["text"]}}, "against": {"image": ["unselected.text"]}}
    for processes in (1, 2):
        values = recipe(world_folder, tmp_path / str(processes), steps=3, selection=selection, zero=1, **changes)
        on_ranks(run_all, processes, [(values, None)])
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


def test_swaps_need_a_balanced_selection(world_folder: Path, tmp_path: Path) -> None:
    selection = {"name": "jest", "filter_ratio": 0.5, "criterion": "hard_learner", "sweeps": 1, "balanced": False}
    values = recipe(world_folder, tmp_path / "run", selection=selection)
    with pytest.raises(UserError, match="swaps stay within strata; set balanced to true, or refine to gibbs"):
        dry_run(RunConfig.model_validate(values))
