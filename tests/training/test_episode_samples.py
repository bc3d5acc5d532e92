"""Episodes: when they are, which samples they draw, what they embed of them, and what is refused."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.sources.open import open_source
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.plugins import load_plugins
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.episodes.config import EpisodesConfig
from tercet.training.episodes.embed import drawn
from tercet.training.preflight.checks import check_episodes
from tests.training.episodes import EVERY, PLUGIN, columns, run_all, with_episodes
from tests.training.tiny import recipe, run, saved_in


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
