"""The memory of clusters: its labels and centroids are plain ones of the vectors of the episode, on any processes."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tercet.data_pipelines.columns import Column, read_column, write_column
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.problem import LABEL
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.testing import RankFailed, on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import check_episodes
from tercet.training.prototypes.config import PrototypesConfig
from tests.training.test_resume import run_all
from tests.training.tiny import assert_same_run, losses, recipe, run

CLUSTERS, STEPS, EVERY = 5, 6, 2
LAST = "step_00000004"


def clustered(data: Path, out: Path, fields: tuple[str, str] = ("image", "audio"), **changes: Any) -> dict[str, Any]:
    """A fifth of the scenes have no sound."""
    terms = [{"between": fields}, term(fields)]
    memories = {"groups": {"kind": "prototypes", "clusters": CLUSTERS, **changes.pop("groups", {})}}
    values = recipe(
        data, out, terms=terms, memories=memories, steps=STEPS, batch_size=16, ema=None, episodes={"every": EVERY}
    )
    del values["pairs"]
    return values | changes


def term(fields: tuple[str, ...], **more: Any) -> dict[str, Any]:
    return {"name": "grouped", "between": fields, "objective": "prototype", "prototypes": "groups", **more}


class Read:
    """What the last episode of a run left in its folder."""

    def __init__(self, data: Path, out: Path) -> None:
        source = open_source(str(data / "train"))
        self.folder, self.fingerprint = out / "episodes" / LAST, source.fingerprint
        self.tensors = load_file(self.folder / "memories/groups/tensors.safetensors")

    def vectors(self, name: str) -> dict[int, np.ndarray]:
        column = read_column(self.folder / "vectors" / name, self.fingerprint)
        return dict(zip(column.id_n.tolist(), column.values["vector"], strict=True))

    def labels(self, teacher: str) -> dict[int, int]:
        column = read_column(self.folder / "memories/groups" / teacher, self.fingerprint)
        return dict(zip(column.id_n.tolist(), column.values[LABEL].tolist(), strict=True))


def assert_translated(read: Read, field: str, teacher: str) -> None:
    """The centroids of a field are means of its own vectors, grouped by the clusters of the teacher."""
    vectors, labels = read.vectors(field), read.labels(teacher)
    for cluster in range(CLUSTERS):
        rows = [vectors[id] for id, label in labels.items() if label == cluster and id in vectors]
        assert read.tensors[f"{field}.exists_K"][cluster] == bool(rows)
        if rows:
            found = read.tensors[f"{field}.centroid_Kd"][cluster]
            np.testing.assert_allclose(found, np.mean(rows, axis=0), rtol=0, atol=1e-6)


def given(world: World, values: dict[str, Any]) -> list[dict[str, dict[int, int]]]:
    """By step and field: the label of each sample of the batch that the terms got."""
    found: list[dict[str, dict[int, int]]] = []
    call = Terms.__call__

    def look(self: Terms, batch: Batch, vectors: Any, temperatures: Any, w: World, known: Known, step: int) -> Outcome:
        found.append({})
        for name in ("image", "audio"):
            id_N = w.gather(batch.ids)
            prototypes = known.prototypes("groups", name, Rows.frozen(torch.zeros(len(id_N), 1), id_N=id_N))
            if prototypes:
                found[-1][name] = dict(zip(id_N.tolist(), prototypes[1].tolist(), strict=True))
        return call(self, batch, vectors, temperatures, w, known, step)

    with patch.object(Terms, "__call__", look):
        run(world, values)
    return found


def test_clusters_and_centroids_are_those_of_the_vectors_of_the_episode(world_folder: Path, tmp_path: Path) -> None:
    """Some of the samples are drawn, so others have no cluster."""
    values = clustered(world_folder, tmp_path, episodes={"every": EVERY, "samples": 60})
    steps = on_ranks(given, 2, values)[0]
    read = Read(world_folder, tmp_path)
    assert len(read.vectors("image")) == 60 > len(read.vectors("audio")) > 40
    for field, teacher in (("image", "audio"), ("audio", "image")):
        centroids = read.tensors[f"{field}.teacher_Ke"]
        labels = read.labels(teacher)
        for id, vector in read.vectors(teacher).items():
            distance = ((centroids - vector) ** 2).sum(axis=1)
            assert distance[labels[id]] <= distance.min() + 1e-6
        assert_translated(read, field, teacher)
        assert steps[:EVERY] == [{}] * EVERY
        for step in steps[4:]:
            assert step[field] == {id: labels.get(id, -1) for id in step[field]}
            assert {-1} < set(step[field].values())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    grouped = [line["loss/grouped"] for line in lines]
    assert grouped[:EVERY] == [0, 0]
    assert all(0 < loss < 3 for loss in grouped[EVERY:])


def test_runs_on_one_and_two_processes_are_alike_and_resume_bit_equal(world_folder: Path, tmp_path: Path) -> None:
    one, whole, parts = (clustered(world_folder, tmp_path / name, zero=2) for name in ("one", "whole", "parts"))
    on_ranks(run_all, 1, [(one, None)])
    parts |= {"checkpoint": {"every": 3}}
    on_ranks(run_all, 2, [(whole, None), (parts, 4), (parts, None)])
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    for teacher in ("image", "audio"):
        assert Read(world_folder, tmp_path / "one").labels(teacher) == Read(world_folder, tmp_path / "whole").labels(
            teacher
        )
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_features_of_another_model_teach_all_fields(world_folder: Path, tmp_path: Path) -> None:
    """Three of four samples have features, of five groups that lie apart in the first four of 20 dimensions."""
    source = open_source(str(world_folder / "train"))
    draw = np.random.default_rng(0)
    id_n = np.array([id for id in range(len(source)) if id % 4])
    group_n = id_n % CLUSTERS
    feature = draw.normal(size=(len(id_n), 20)).astype(np.float32) * 0.1
    feature[:, :4] += 10 * np.eye(5, 4, dtype=np.float32)[group_n]
    write_column(tmp_path / "features", source.fingerprint, Column(id_n, {"sentence": feature}))
    groups = {"features": str(tmp_path / "features"), "feature": "sentence", "dims": 4}
    values = clustered(world_folder, tmp_path / "run", groups=groups)
    values["terms"][1]["objective"] = {"name": "prototype", "temperature": 0}
    on_ranks(run_all, 2, [(values, None)])
    read = Read(world_folder, tmp_path / "run")
    labels = read.labels("features")
    assert sorted(labels) == id_n.tolist()
    pairs = {(labels[id], group) for id, group in zip(id_n.tolist(), group_n.tolist(), strict=True)}
    assert len(pairs) == CLUSTERS, "the clusters are the groups"
    assert read.tensors["image.teacher_Ke"].shape == (CLUSTERS, 4)
    for field in ("image", "audio"):
        assert_translated(read, field, "features")


def test_more_clusters_than_samples_are_an_error_of_one_line(world_folder: Path, tmp_path: Path) -> None:
    values = clustered(world_folder, tmp_path, groups={"clusters": 500})
    with pytest.raises(RankFailed, match=r"500 clusters of .* samples: give a number from 1 to"):
        on_ranks(run_all, 1, [(values, None)])


THREE = [{"between": ["image", "text"]}, term(("image", "text", "audio"))]


@pytest.mark.parametrize(
    ("groups", "changes", "message"),
    [
        ({"dims": 3}, {}, r"`memories.groups.dims` applies to `features` only"),
        ({"features": "x", "taught_by": {"image": "audio"}}, {}, r"taught_by` and `features` are both given"),
        ({"taught_by": {"image": "audio"}}, {}, r"does not say whose clusters `audio` learns in the term grouped"),
        ({}, {"terms": THREE}, r"does not say whose clusters `image` learns in the term grouped"),
        ({}, {"terms": THREE[:1]}, r"`memories.groups` is used by no term"),
        (
            {"taught_by": {"image": "text", "audio": "image"}},
            {},
            r"has `text`, which episodes do not embed; known: audio",
        ),
        ({"clusters": 0}, {}, r"clusters"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, groups: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(clustered(tmp_path, tmp_path, groups=groups, **changes))


def test_a_run_without_episodes_and_missing_features_are_refused(tmp_path: Path) -> None:
    config = RunConfig.model_validate(clustered(tmp_path, tmp_path, episodes=None))
    with pytest.raises(UserError, match=r"memories.groups computes from the vectors of episodes, and there are none"):
        check_episodes(config)
    with pytest.raises(UserError, match=r"memories.groups.features: the folder .*none does not exist"):
        PrototypesConfig(clusters=3, features=str(tmp_path / "none")).check_files("groups")


def test_one_direction_needs_one_teacher(tmp_path: Path) -> None:
    values = clustered(tmp_path, tmp_path, groups={"taught_by": {"image": "audio"}})
    values["terms"][1]["directions"] = {"image": 1}
    assert RunConfig.model_validate(values).memories["groups"].kind == "prototypes"
