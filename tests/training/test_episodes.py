"""Episodes: what they embed, that a run killed at any moment resumes bit-equal, and that other ranks see the same."""

import io
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.columns import Column, read_column
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.sources.open import open_source
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.distributed import World
from tercet.errors import RunStopped, UserError
from tercet.models.multimodal import build_model
from tercet.plugins import load_plugins
from tercet.testing import RankFailed, on_ranks
from tercet.training import commit as protocol
from tercet.training.config import RunConfig
from tercet.training.episodes.config import EpisodesConfig
from tercet.training.episodes.embed import SampleEmbedder, drawn
from tercet.training.episodes.store import EPISODES, prune_episodes
from tercet.training.preflight import check_episodes
from tercet.training.trainer import Trainer
from tests.training.tiny import MODEL, losses, recipe, run, saved, saved_in

PLUGIN = Path(__file__).with_name("field_means.py")
STEPS, EVERY = 8, 3  # so episodes before steps 3 and 6, counted from 0
Job = tuple[dict[str, Any], int | None]


def with_episodes(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = recipe(
        data, out, model={**MODEL, "audio": None}, pairs={"image-text": 1.0}, steps=STEPS, batch_size=8,
        memories={"means": {"kind": "field_means"}}, against={"text": ["means.image"]}, episodes={"every": EVERY},
    )  # fmt: skip
    return values | changes


def run_all(world: World, jobs: list[Job]) -> list[list[int]]:
    """The steps of the episodes that each job embedded samples for."""
    load_plugins([PLUGIN])
    found = []
    for values, stop in jobs:
        with embedding() as steps:
            run(world, values, stop)
        found.append(steps)
    return found


@contextmanager
def embedding() -> Iterator[list[int]]:
    steps: list[int] = []

    def noting(*arguments: Any) -> Any:
        steps.append(arguments[-1])
        return drawn(*arguments)

    with patch("tercet.training.episodes.episodes.drawn", noting):
        yield steps


def columns(out: Path, step: int) -> dict[str, Column]:
    folder = out / EPISODES / f"step_{step:08d}"
    found = {}
    for place in (*(folder / "vectors").glob("*/*"), *(folder / "memories/means").glob("*/*")):
        found[place.parent.name] = read_column(place.parent, place.name)
    return found


def assert_equal(out: Path, other: Path) -> None:
    one, two = saved(out), saved(other)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert losses(out) == losses(other)
    assert len(losses(out)) == STEPS
    last = range(EVERY, STEPS, EVERY)[-1]
    assert_same_columns(columns(out, last), columns(other, last), 0.0)


def assert_same_columns(one: dict[str, Column], two: dict[str, Column], tolerance: float) -> None:
    assert one.keys() == two.keys() == {"image", "text", "pair"}
    for name, column in one.items():
        np.testing.assert_array_equal(column.id_n, two[name].id_n)
        for key, value in column.values.items():
            np.testing.assert_allclose(value, two[name].values[key], rtol=0, atol=tolerance)


@pytest.mark.long
def test_a_resumed_run_reads_its_episodes_or_computes_them_again_at_every_zero_stage(
    world_folder: Path, tmp_path: Path
) -> None:
    jobs: list[Job] = []
    for zero in (0, 1, 2, 3):
        whole = with_episodes(world_folder, tmp_path / f"whole{zero}", zero=zero)
        parts = with_episodes(world_folder, tmp_path / f"parts{zero}", zero=zero, checkpoint={"every": 2})
        jobs += [(whole, None), (parts, 3), (parts, 5), (parts, None)]
    for rank in on_ranks(run_all, 2, jobs):
        assert rank == [[3, 6], [3], [3], [6]] * 4
    for zero in (0, 1, 2, 3):
        assert_equal(tmp_path / f"whole{zero}", tmp_path / f"parts{zero}")
    without = losses(tmp_path / "whole0")
    on_ranks(run_all, 1, [(with_episodes(world_folder, tmp_path / "other", episodes={"every": 4}), None)])
    other = losses(tmp_path / "other")
    assert other[:3] == pytest.approx(without[:3], rel=1e-5)
    assert other[3] != pytest.approx(without[3], rel=1e-5), "the episode changed nothing"


def test_one_and_two_processes_have_the_same_episodes_and_plans_and_a_run_may_move(
    world_folder: Path, tmp_path: Path
) -> None:
    one, two, moving = (with_episodes(world_folder, tmp_path / name) for name in ("one", "two", "moving"))
    moving |= {"checkpoint": {"every": 1}}
    on_ranks(run_all, 1, [(one, None)])
    on_ranks(run_all, 2, [(two, None), (moving, 4)])
    assert on_ranks(run_all, 1, [(moving, None)]) == [[[6]]]
    for name in ("two", "moving"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
        assert_same_columns(columns(tmp_path / name, 6), columns(tmp_path / "one", 6), 1e-5)
        plans = [(tmp_path / run / "plans" / "history.jsonl").read_text() for run in ("one", name)]
        assert plans[0] == plans[1]


def killed(world: World, values: dict[str, Any], when: str) -> None:
    """Ends this process at the first episode: before it embeds, when its draft is complete, or two steps later."""
    load_plugins([PLUGIN])
    rename, call, record = os.rename, SampleEmbedder.__call__, Trainer._record

    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def renaming(old: Path, new: Path) -> None:
        if when == "draft" and Path(old).parent.name == EPISODES:
            assert (Path(old) / protocol.MANIFEST).is_file()
            die()
        rename(old, new)

    def recording(self: Trainer, stage: Any, progress: Any, *rest: Any) -> Any:
        if when == "after" and progress.step == EVERY + 2:
            die()
        return record(self, stage, progress, *rest)

    with (
        patch.object(SampleEmbedder, "__call__", die if when == "before" else call),
        patch.object(protocol.os, "rename", renaming),
        patch.object(Trainer, "_record", recording),
    ):
        run(world, values)


@pytest.mark.parametrize(("world", "moments"), [(1, ["before", "draft", "after"]), (2, ["draft"])])
def test_a_run_killed_before_within_or_after_an_episode_resumes_bit_equal(
    world_folder: Path, tmp_path: Path, world: int, moments: list[str]
) -> None:
    on_ranks(run_all, world, [(with_episodes(world_folder, tmp_path / "whole"), None)])
    for when in moments:
        every = 3 if when == "draft" else 2
        values = with_episodes(world_folder, tmp_path / when, checkpoint={"every": every})
        with pytest.raises(RankFailed):
            on_ranks(killed, world, values, when)
        place = tmp_path / when / EPISODES / f"step_{EVERY:08d}"
        assert place.is_dir() == (when == "after")
        assert place.with_suffix(".tmp").is_dir() == (when == "draft")
        assert on_ranks(run_all, world, [(values, None)])[0] == [[6] if when == "after" else [3, 6]]
        assert_equal(tmp_path / "whole", tmp_path / when)


def signalled(world: World, values: dict[str, Any]) -> str:
    """A signal to the last rank while it embeds."""
    load_plugins([PLUGIN])
    call = SampleEmbedder.__call__

    def interrupted(*arguments: Any) -> Any:
        if world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(*arguments)

    with patch.object(SampleEmbedder, "__call__", interrupted), pytest.raises(RunStopped) as stopped:
        run(world, values)
    return str(stopped.value)


def test_a_signal_within_an_episode_stops_the_run_after_the_next_step(world_folder: Path, tmp_path: Path) -> None:
    values = with_episodes(world_folder, tmp_path / "parts")
    assert on_ranks(signalled, 2, values) == ["stopped at step 4, saved; the same command resumes"] * 2
    whole = with_episodes(world_folder, tmp_path / "whole")
    assert on_ranks(run_all, 2, [(values, None), (whole, None)])[0] == [[6], [3, 6]]
    assert_equal(tmp_path / "whole", tmp_path / "parts")


def test_vectors_are_those_of_evaluation_with_the_weights_of_the_step(world_folder: Path, tmp_path: Path) -> None:
    """Of 30 samples, on two ranks at stage 3, against a plain model that embeds one at a time."""
    values = with_episodes(
        world_folder, tmp_path, steps=5, zero=3, checkpoint={"every": 4}, eval={"batch_size": 7},
        episodes={"every": 2, "start": 4, "samples": 30},
    )  # fmt: skip
    values["data"] |= {"crop": [0.1, 0.3]}
    on_ranks(run_all, 2, [(values, None)])
    config = RunConfig.model_validate({**values, "memories": {}, "against": {}, "episodes": None})
    model = build_model(config.model, config.terms, 1)
    weights = saved_in(tmp_path / "checkpoints" / "step_00000004")
    model.load_state_dict({name[7:]: value for name, value in weights.items() if name.startswith("weight/")})
    source = open_source(str(world_folder / "train"))
    decode, maker = Decoder(source, model.intakes, SplitConfig(source="train")), BatchMaker(model.intakes)
    (listed,) = drawn([np.arange(len(source))], 30, 0, 4)
    assert len(set(listed.tolist())) == 30
    for name, column in columns(tmp_path, 4).items():
        assert column.id_n.tolist() == listed.tolist()
        for id, vector in zip(column.id_n.tolist(), column.values.get("vector", ()), strict=name != "pair"):
            (sample,) = decode([id], [CentreView()])
            assert isinstance(sample, Sample)
            (expected,) = model.eval().embed(maker.collate([sample]))[name]
            np.testing.assert_allclose(vector, expected.numpy(), rtol=0, atol=1e-5)


def test_a_later_stage_goes_on_with_the_last_episode_and_may_have_its_own(world_folder: Path, tmp_path: Path) -> None:
    stages: list[dict[str, Any]] = [
        {"name": "first", "steps": 4},
        {"name": "plain", "steps": 2, "set": {"episodes": None}},
        {"name": "early", "steps": 3, "set": {"episodes": {"every": 0.5, "start": 0}}},
    ]
    whole, parts = (with_episodes(world_folder, tmp_path / name, stages=stages) for name in ("whole", "parts"))
    parts |= {"checkpoint": {"every": 1}}
    for values in (whole, parts):
        del values["steps"]
    jobs: list[Job] = [(whole, None), (parts, 5), (parts, None)]
    assert on_ranks(run_all, 1, jobs) == [[[3, 6, 8], [3], [6, 8]]]
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert json.loads((tmp_path / "whole/checkpoints/step_00000009/state.json").read_text())["episode"] == 8


def test_an_episode_alone_changes_no_batch_and_no_weight(world_folder: Path, tmp_path: Path) -> None:
    values = {"against": {}, "selection": {"name": "random", "filter_ratio": 0.5}}
    unused = with_episodes(world_folder, tmp_path / "with", **values)
    plain = with_episodes(world_folder, tmp_path / "without", **values, episodes=None, memories={})
    on_ranks(run_all, 1, [(unused, None), (plain, None)])
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    one, other = saved(tmp_path / "with"), saved(tmp_path / "without")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("episodes", "steps"),
    [
        ({"every": 3}, [13, 16, 19]),
        ({"every": 3, "start": 0}, [10, 13, 16, 19]),
        ({"every": 4, "start": 5}, [15, 19]),
        ({"every": 0.25, "start": 0.1}, [11, 13, 15, 17, 19]),
        ({"every": 0.01, "start": 8}, [18, 19]),
        ({"every": 10}, []),
    ],
)
def test_steps_of_episodes(episodes: dict[str, Any], steps: list[int]) -> None:
    assert list(EpisodesConfig(**episodes).steps_in(range(10, 20))) == steps


def test_samples_are_drawn_without_replacement_from_all_sources_alike() -> None:
    sources = [np.arange(40), np.array([3, 7, 9]), np.arange(100, 157)]
    assert [part.tolist() for part in drawn(sources, None, 0, 5)] == [ids.tolist() for ids in sources]
    assert [part.tolist() for part in drawn(sources, 100, 0, 5)] == [ids.tolist() for ids in sources]
    counts = np.zeros(100)
    draws = 600
    for step in range(draws):
        parts = drawn(sources, 20, 1, step)
        assert all(set(part.tolist()) <= set(ids.tolist()) for part, ids in zip(parts, sources, strict=True))
        assert all((np.diff(part) > 0).all() for part in parts)
        place = np.concatenate([parts[0], 40 + np.searchsorted(sources[1], parts[1]), 43 + parts[2] - 100])
        assert len(place) == 20
        counts[place] += 1
    spread = np.sqrt(draws * 0.2 * 0.8)
    assert (np.abs(counts - draws * 0.2) < 5 * spread).all()
    assert counts.std() > spread / 2, "the draws do not differ"


def test_pruning_keeps_what_a_checkpoint_may_name(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        (tmp_path / f"step_{step:08d}").mkdir()
    prune_episodes(tmp_path, 40, [25, 40])
    assert sorted(protocol.step_of(path) for path in tmp_path.iterdir()) == [10, 20, 30, 40]
    prune_episodes(tmp_path, 40, [])
    assert sorted(protocol.step_of(path) for path in tmp_path.iterdir()) == [40]


def test_an_episode_that_is_lost_or_damaged_is_an_error_of_one_line(world_folder: Path, tmp_path: Path) -> None:
    values = with_episodes(world_folder, tmp_path, checkpoint={"every": 1})
    on_ranks(run_all, 1, [(values, 4)])
    (path,) = (tmp_path / EPISODES / "step_00000003").glob("memories/means/pair/*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RankFailed, match=r"step_00000003, which cannot be used \(memories/means/pair.*Restore it"):
        on_ranks(run_all, 1, [(values, None)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "`episodes` are set, but nothing uses them"),
        ({"episodes": {"every": 0}}, "every"),
        ({"episodes": {"samples": 10}}, "every"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = recipe(tmp_path, tmp_path, **{"episodes": {"every": 3}, **changes})
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(values)


def refusals(world: World, values: list[dict[str, Any]]) -> list[str]:
    load_plugins([PLUGIN])
    found = []
    for one in values:
        with pytest.raises((ValueError, UserError)) as refused:
            check_episodes(RunConfig.model_validate(one))
        found.append(str(refused.value))
    return found


def test_runs_in_which_episodes_cannot_work_are_refused(tmp_path: Path) -> None:
    stream = with_episodes(tmp_path, tmp_path) | {"data": {"train": str(tmp_path), "mode": "stream"}}
    fields = [
        with_episodes(tmp_path, tmp_path, episodes={"every": 1, "fields": [name]}) for name in ("audio", "text.x")
    ]
    none = with_episodes(tmp_path, tmp_path, episodes=None)
    (found,) = on_ranks(refusals, 1, [stream, *fields, none])
    assert "`episodes` need samples with ids, which a stream lacks; set data.mode=index" in found[0]
    assert "`episodes.fields` has `audio`, for which the model has no tower; known: image, text" in found[1]
    assert "`episodes.fields` has `text.x`, which the recipe adds" in found[2]
    assert found[3].startswith("memories.means computes from the vectors of episodes, and there are none.")


def test_an_episode_says_how_many_samples_could_not_be_decoded(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pictures are broken; the run replaces them, and the episode has no vectors of them."""
    names = break_pictures(world_folder / "train", tmp_path / "train", 2)
    values = with_episodes(world_folder, tmp_path / "out", steps=EVERY + 1)
    values["data"] = {
        "train": {"train": {"source": str(tmp_path / "train")}},
        "crop": None,
        "workers": 0,
        "max_bad": 0.5,
    }
    load_plugins([PLUGIN])
    run(World(), values)
    assert f"episode at step {EVERY}: 2 samples could not be decoded" in capsys.readouterr().err
    source = open_source(str(tmp_path / "train"))
    embedded = columns(tmp_path / "out", EVERY)["image"].id_n.tolist()
    assert sorted(set(range(len(source))) - set(embedded)) == [
        id for id in range(len(source)) if source.key(id) in names
    ]


def break_pictures(folder: Path, out: Path, count: int) -> list[str]:
    """Copies shards, but cuts the first pictures short, so that they cannot be decoded. Returns the keys of these."""
    out.mkdir()
    broken: list[str] = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as old, tarfile.open(out / path.name, "w") as new:
            for member in old:
                content = old.extractfile(member)
                assert content is not None
                data = content.read()
                if member.name.endswith((".jpg", ".png", ".webp")) and len(broken) < count:
                    broken.append(member.name.partition(".")[0])
                    data = data[:20]
                    member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return broken
