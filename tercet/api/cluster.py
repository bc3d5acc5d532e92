"""`tercet data cluster`: the cluster of every sample of a data set, by the embeddings of a model."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.data import Data, looked_at
from tercet.api.embed import check_folder
from tercet.api.model import Loadable, load, name_of
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.training.prototypes.cluster_data import ClusteredSource, ClusterTask, cluster_source
from tercet.training.prototypes.kmeans import KMeans


@dataclass(frozen=True)
class ClusteredData:
    """The folder of the column, and the clusters of each source."""

    column: Path
    sources: tuple[ClusteredSource, ...]

    def to_json(self) -> dict[str, Any]:
        return {"column": str(self.column), "sources": [one.to_json() for one in self.sources]}

    def __str__(self) -> str:
        return "\n".join([*map(str, self.sources), f"column: {self.column}"])


def cluster(
    model: Loadable,
    data: Data | None,
    out: str | os.PathLike[str],
    *,
    clusters: int,
    split: str | None = None,
    among: str | None = None,
    within: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> ClusteredData:
    """Groups samples by K-means of their vectors of the modality `among`, and writes the column `label` to `out`.

    Without data, `split` names those of the model's run: train or val. `within`: a column of an earlier call, whose
    clusters are divided further.
    """
    check_folder(out)
    if within is not None and not Path(within).is_dir():
        raise UserError(f"the column of clusters {within} does not exist; name a folder that an earlier call wrote")
    given = looked_at(name_of(model), data, split)
    earlier = None if within is None else Path(within)
    with joined() as world:
        towers, options = load(model, world.device).towers, KMeans(clusters, seed=seed)
        tasks = [
            ClusterTask(towers, name, given, source, options, among, earlier) for name, source in given.val.items()
        ]
        return ClusteredData(Path(out), tuple(cluster_source(task, Path(out), world) for task in tasks))
