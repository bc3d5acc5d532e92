"""Episodes that change the order: steps train on drawn samples, or on neighbours by the current vectors."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.command.plan import print_plan
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.columns import Column, read_column, write_part
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import check_episodes, dry_run
from tests.training.test_orders import trained
from tests.training.tiny import MODEL, assert_same_run, losses, recipe, run

STEPS, EVERY, DRAWN, BATCH = 9, 3, 24, 8
Batches = list[list[int]]


def values(world_folder: Path, out: Path, episodes: dict[str, Any], **train: Any) -> dict[str, Any]:
    data = {"train": {"source": str(world_folder / "train"), **train}, "crop": [0.3, 1.0], "worker": "thread"}
    return recipe(
        world_folder, out, data=data, model={**MODEL, "audio": None}, pairs={"image-text": 1.0}, steps=STEPS,
        batch_size=BATCH, zero=2, episodes={"every": EVERY, **episodes},
    )  # fmt: skip


def jobs_of(world: World, jobs: list[tuple[dict[str, Any], int | None]]) -> list[Batches]:
    return [trained(world, one, stop) for one, stop in jobs]


def joined(ranks: list[Batches]) -> Batches:
    """The global batches that the run trained on, from those of the ranks; a loader may have made one more ahead."""
    return [list(chain(*batch)) for batch in zip(*ranks, strict=True)]


def assert_alike(out: Path, one: dict[str, Any], two: dict[str, Any], parts: dict[str, Any]) -> Batches:
    """The batches of a run, which are the same on two processes; interrupted there, the run resumes bit-equal."""
    ((alone,),) = on_ranks(jobs_of, 1, [(one, None)])
    ranks = on_ranks(jobs_of, 2, [(two, None), (parts, 4), (parts, None)])
    assert joined([rank[0] for rank in ranks]) == alone
    assert losses(out / "two") == pytest.approx(losses(out / "one"), rel=1e-4)
    assert_same_run(out / "two", out / "parts")
    return alone


def test_steps_train_on_the_samples_that_an_episode_drew(world_folder: Path, tmp_path: Path) -> None:
    one, two, parts = (
        values(world_folder, tmp_path / name, {"samples": DRAWN, "train_on": "drawn"})
        for name in ("one", "two", "parts")
    )
    for run_values in (one, two, parts):
        run_values["checkpoint"] = {"every": 2, "keep": 9}
    batches = assert_alike(tmp_path, one, two, parts)
    assert len(batches) == STEPS
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    drawn = []
    for step in (3, 6):
        folder = tmp_path / "one/episodes" / f"step_{step:08d}"
        drawn.append(read_column(folder / "samples", fingerprint).id_n.tolist())
        assert sorted(chain(*batches[step : step + EVERY])) == drawn[-1], "three batches of eight are one epoch of 24"
    assert len(set(chain(*batches[:EVERY]))) == EVERY * BATCH
    assert drawn[0] != drawn[1]
    history = [(tmp_path / name / "plans/history.jsonl").read_text() for name in ("one", "two", "parts")]
    assert history[0] == history[1] == history[2]
    lines = [json.loads(line) for line in history[0].splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert len({line["plan"] for line in lines}) == 3


def test_a_redrawn_loader_starts_at_a_new_epoch_and_a_whole_batch(world_folder: Path, tmp_path: Path) -> None:
    """So that a sample which is drawn again has another crop."""
    source = open_source(str(world_folder / "train"))
    loader = Loader(DataConfig.model_validate({"train": "x"}), {"train": source}, {}, BATCH, seed=0)
    write_part(tmp_path, source.fingerprint, Column(np.arange(5, 27), {}))
    data = loader_data = DataConfig.model_validate({"train": {"source": "x"}})
    listed = data.train["train"].model_copy(update={"list": str(tmp_path)})
    data = data.model_copy(update={"train": {"train": listed}})
    for cursor, epoch in ((0, 1), (40, 1), (96, 2), (500, 6)):
        again = loader.redrawn(data, {"train": cursor})
        assert again.plan.samples == 22
        start = again.cursors["train"]
        assert (start % BATCH, again.epoch(again.cursors)) == (0, epoch)
        assert start - epoch * 22 < BATCH
        assert again.plan == make_schedule(data, {"train": source}, BATCH, 0).plan
    assert loader.plan == make_schedule(loader_data, {"train": source}, BATCH, 0).plan, "the first one is as it was"


def graph_of(out: Path, step: int, fingerprint: str) -> Column:
    return read_column(out / f"episodes/step_{step:08d}/neighbors/train", fingerprint)


def test_batches_have_the_neighbours_of_the_current_vectors(world_folder: Path, tmp_path: Path) -> None:
    neighbors = {"graph": "episode", "range_max": 3, "sampling_strategy": "top"}
    one, two, parts = (
        values(world_folder, tmp_path / name, {}, neighbors=neighbors) for name in ("one", "two", "parts")
    )
    parts["checkpoint"] = {"every": 2}
    batches = assert_alike(tmp_path, one, two, parts)
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    vectors = read_column(tmp_path / "one/episodes/step_00000006/vectors/image", fingerprint).values["vector"]
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    graph = graph_of(tmp_path / "one", 6, fingerprint)
    assert graph.id_n.tolist() == list(range(96))
    best = np.sort(cosine, axis=1)[:, :-4:-1]
    np.testing.assert_allclose(graph.values["scores"], best, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosine, graph.values["neighbors"], axis=1), best, rtol=0, atol=1e-5)
    for batch in batches[6:]:
        bring = [id for id in batch if graph.values["neighbors"][id, 0] in batch]
        assert len(bring) >= BATCH // 2, "every other sample brings the one that is most like it"
    first = graph_of(tmp_path / "parts", 6, fingerprint)
    assert first.values["neighbors"].tolist() == graph_of(tmp_path / "two", 6, fingerprint).values["neighbors"].tolist()


def test_neighbours_across_modalities_are_right_on_two_ranks_and_have_the_score_of_the_own_pair(
    world_folder: Path, tmp_path: Path
) -> None:
    """Sounds by pictures: a fifth of the scenes of the first source have none. Of two sources, each keeps to itself."""
    neighbors = {"graph": "episode", "compare": ["image", "audio"], "relative_margin": 0.1, "range_max": 5}
    one = values(world_folder, tmp_path, {"fields": ["image", "audio"]})
    one |= {"model": MODEL, "pairs": {"image-audio": 1.0}, "steps": 5}
    one["data"]["train"] = {
        "train": {"source": str(world_folder / "train"), "neighbors": neighbors},
        "more": {"source": str(world_folder / "val"), "neighbors": neighbors},
    }
    on_ranks(jobs_of, 2, [(one, None)])
    folder = tmp_path / "episodes/step_00000003"
    for name, data in (("train", "train"), ("more", "val")):
        fingerprint = open_source(str(world_folder / data)).fingerprint
        image, audio = (read_column(folder / "vectors" / one, fingerprint) for one in ("image", "audio"))
        graph = read_column(folder / "neighbors" / name, fingerprint)
        assert len(image.id_n) == len(graph.id_n)
        assert (len(audio.id_n) < len(image.id_n)) == (name == "train")
        cosine = image.values["vector"] @ audio.values["vector"].T
        place = {id: at for at, id in enumerate(audio.id_n.tolist())}
        for row, id in enumerate(image.id_n.tolist()):
            own = cosine[row, place[id]] if id in place else np.nan
            np.testing.assert_allclose(graph.values["positive"][row], own, rtol=0, atol=1e-5)
            rivals = [cosine[row, at] for other, at in place.items() if other != id]
            np.testing.assert_allclose(graph.values["scores"][row], sorted(rivals)[:-6:-1], rtol=0, atol=1e-5)
            found = [cosine[row, place[other]] for other in graph.values["neighbors"][row].tolist()]
            np.testing.assert_allclose(found, graph.values["scores"][row], rtol=0, atol=1e-5)


def test_a_dry_run_of_a_run_within_episodes_agrees_with_its_plan(world_folder: Path, tmp_path: Path) -> None:
    neighbors = {"graph": "episode"}
    one = values(world_folder, tmp_path, {"samples": 40, "train_on": "drawn"}, neighbors=neighbors)
    one["checkpoint"] = {"every": 1}
    run(World(), one, stop=4)
    _, unchecked = dry_run(RunConfig.model_validate(one))
    assert unchecked == ["towers and their weights"]
    run(World(), one)
    assert len(losses(tmp_path)) == STEPS


@pytest.mark.parametrize(
    ("episodes", "shown"),
    [
        ({}, "an episode every 3 steps, of all samples"),
        (
            {"every": 0.25, "samples": 1200, "train_on": "drawn"},
            "an episode every 0.25 of its steps, of 1,200 samples, on which the next steps train",
        ),
    ],
)
def test_a_dry_run_shows_the_episodes(
    episodes: Any, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_plan(RunConfig.model_validate(values(tmp_path, tmp_path, episodes, neighbors={"graph": "episode"})), [])
    printed = " ".join(capsys.readouterr().out.split())
    assert shown in printed
    assert "0.5 of it neighbours by the vectors of each episode" in printed


@pytest.mark.parametrize(
    ("episodes", "train", "message"),
    [
        ({"train_on": "drawn"}, {}, "train_on` is `drawn`, but an episode draws all samples; set `samples`"),
        ({"train_on": "drawn", "samples": 7}, {}, "`episodes.samples` is 7, but a step needs 8 samples; raise it"),
        ({}, {"neighbors": {"graph": "x", "compare": ["image"]}}, "compare` applies to `graph: episode` only"),
        (
            {},
            {"neighbors": {"graph": "episode", "relative_margin": 0.1}},
            "relative_margin` needs the score of the sample's own pair; compare two modalities",
        ),
        (
            {},
            {"neighbors": {"graph": "episode", "compare": ["image", "audio"]}},
            "`data.train.train.neighbors.compare` has `audio`, which episodes do not embed; known: image, text",
        ),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, episodes: Any, train: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(values(tmp_path, tmp_path, episodes, **train))


def test_a_graph_of_episodes_needs_episodes(tmp_path: Path) -> None:
    one = values(tmp_path, tmp_path, {}, neighbors={"graph": "episode"}) | {"episodes": None}
    with pytest.raises(UserError, match=r"data.train.train.neighbors computes from the vectors of episodes"):
        check_episodes(RunConfig.model_validate(one))


def grouped(world_folder: Path, out: Path, **clusters: Any) -> dict[str, Any]:
    one = values(world_folder, out, {}, clusters={"column": "episode", **clusters})
    return one | {"memories": {"groups": {"kind": "prototypes", "clusters": 3}}, "ema": None}


def labels_of(out: Path, step: int, whose: str, fingerprint: str) -> dict[int, int]:
    column = read_column(out / f"episodes/step_{step:08d}/memories/groups/{whose}", fingerprint)
    return dict(zip(column.id_n.tolist(), column.values["label"].tolist(), strict=True))


@pytest.mark.parametrize(
    ("clusters", "whose", "found"),
    [({}, "image", 1), ({"of": "groups.text", "mix": "within_batches", "weights": "equal"}, "text", 3)],
)
def test_batches_follow_the_clusters_of_the_current_vectors(
    world_folder: Path, tmp_path: Path, clusters: dict[str, str], whose: str, found: int
) -> None:
    """No term uses the clusters. Before the first episode, the batches are the usual ones."""
    one, two, parts = (grouped(world_folder, tmp_path / name, **clusters) for name in ("one", "two", "parts"))
    for run_values in (one, two, parts):
        run_values["checkpoint"] = {"every": 2, "keep": 9}
    batches = assert_alike(tmp_path, one, two, parts)
    usual = values(world_folder, tmp_path / "usual", {"samples": BATCH, "train_on": "drawn"})
    ((plain,),) = on_ranks(jobs_of, 1, [(usual, EVERY)])
    assert batches[:EVERY] == plain[:EVERY]
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    for step in (3, 6):
        labels = labels_of(tmp_path / "one", step, whose, fingerprint)
        assert sorted(labels) == list(range(96))
        for batch in batches[step : step + EVERY]:
            counts = np.bincount([labels[id] for id in batch])
            assert np.count_nonzero(counts) == found
            assert found == 1 or counts.max() - counts.min() <= 1
    history = (tmp_path / "parts/plans/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == [0, 3, 6]


def test_clusters_of_features_compose_batches(world_folder: Path, tmp_path: Path) -> None:
    """K-means finds the groups of ids in vectors that lie apart; samples without a vector are in no batch."""
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    id_n = np.arange(80)
    write_part(tmp_path / "vectors", fingerprint, Column(id_n, {"vector": np.eye(4, dtype=np.float32)[id_n % 4]}))
    one = grouped(world_folder, tmp_path / "run")
    one["memories"]["groups"] |= {"clusters": 4, "features": str(tmp_path / "vectors")}
    ((batches,),) = on_ranks(jobs_of, 1, [(one, None)])
    assert all(len({id % 4 for id in batch}) == 1 and max(batch) < 80 for batch in batches[EVERY:])


def test_a_dry_run_shows_that_episodes_find_the_clusters(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_plan(RunConfig.model_validate(grouped(world_folder, tmp_path)), [])
    assert "each batch from one cluster by the vectors of each episode" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("clusters", "changes", "message"),
    [
        ({}, {"memories": {}}, "clusters.column` is `episode`, but no memory finds clusters then; add memories"),
        ({"of": "group"}, {}, "clusters.of` is `group`, but no memory .*; did you mean `groups`"),
        ({"of": "groups.audio"}, {}, "clusters.of` has `audio`, which episodes do not embed; known: image, text"),
        ({"column": "x", "of": "groups"}, {}, "of` applies to `column: episode` only; leave it out"),
    ],
)
def test_mistakes_in_clusters_of_episodes_are_refused(
    tmp_path: Path, clusters: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(grouped(tmp_path, tmp_path, **clusters) | changes)


def test_clusters_of_episodes_need_episodes(tmp_path: Path) -> None:
    one = grouped(tmp_path, tmp_path) | {
        "episodes": None,
        "memories": {"groups": {"kind": "prototypes", "clusters": 3}},
    }
    with pytest.raises(UserError, match=r"computes from the vectors of episodes"):
        check_episodes(RunConfig.model_validate(one))
