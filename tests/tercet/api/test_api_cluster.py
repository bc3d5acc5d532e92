"""`tercet data cluster`: its clusters are those of K-means of the embeddings, also within earlier ones."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tercet
from tercet.api.cluster import cluster
from tercet.command import main
from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.composition import ClustersConfig
from tercet.data_pipelines.plans.clusters import read_clusters
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.prototypes.cluster_data import ClusterTask, cluster_source
from tercet.training.prototypes.kmeans import KMeans


def labels(folder: Path) -> np.ndarray:
    source = open_source("photos.csv")
    column = read_column(folder, source.fingerprint)
    assert column.id_n.tolist() == list(range(48))
    assert read_clusters(ClustersConfig(column=str(folder)), source).label_N.tolist() == column.values["label"].tolist()
    return column.values["label"]


def test_each_sample_is_in_the_cluster_of_the_nearest_mean(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split("data cluster exported --data photos.csv --clusters 4 --out groups --json")) == 0
    (found,) = json.loads(capsys.readouterr().out)["sources"]
    label = labels(home / "groups")
    assert (found["modality"], found["samples"]) == ("image", 48)
    assert found["sizes"] == sorted(np.bincount(label, minlength=4).tolist(), reverse=True)
    vectors = tercet.embed("exported", "photos.csv").table().vectors["image"].double().numpy()
    means = np.stack([vectors[label == each].mean(axis=0) for each in range(4)])
    distances = np.square(vectors[:, None] - means).sum(axis=2)
    assert distances.argmin(axis=1).tolist() == label.tolist()
    assert found["inertia"] == pytest.approx(distances.min(axis=1).sum(), rel=1e-4)


def test_clusters_within_earlier_ones(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster("exported", "photos.csv", home / "first", clusters=3)
    cluster("exported", "photos.csv", home / "alone", clusters=2, among="text")
    command = "data cluster exported --data photos.csv --clusters 2 --among text --within first --out second"
    assert main(shlex.split(command)) == 0
    assert "photos.csv: " in capsys.readouterr().out
    assert labels(home / "second").tolist() == (labels(home / "first") * 2 + labels(home / "alone")).tolist()


def on_rank(world: World, out: str, data: Any) -> None:
    from tercet.api.model import load

    ((name, split),) = data.val.items()
    towers = load("exported", world.device).towers
    cluster_source(ClusterTask(towers, name, data, split, KMeans(5)), Path(out), world)


def test_two_processes_find_the_same_clusters(home: Path) -> None:
    from tercet.api.data import looked_at

    data = looked_at("exported", "photos.csv")
    on_ranks(on_rank, 2, str(home / "two"), data)
    cluster("exported", "photos.csv", home / "one", clusters=5)
    assert labels(home / "two").tolist() == labels(home / "one").tolist()


def test_mistakes_are_named(home: Path) -> None:
    with pytest.raises(UserError, match=r"the data hold no audio that the model encodes"):
        cluster("exported", "photos.csv", home / "wrong", clusters=2, among="audio")
    with pytest.raises(UserError, match=r"100 clusters of 48 samples: give a number from 1 to 48"):
        cluster("exported", "photos.csv", home / "wrong", clusters=100)
    with pytest.raises(UserError, match=r"the column of clusters none does not exist; name a folder"):
        cluster("exported", "photos.csv", home / "wrong", clusters=2, within="none")
