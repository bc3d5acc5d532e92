"""What an episode changes about the order of samples: the list of those that it drew, graphs of neighbours, and
clusters."""

from collections.abc import Mapping
from pathlib import Path

from tercet.data_pipelines.columns import has_column
from tercet.data_pipelines.composition import EPISODE
from tercet.data_pipelines.config import DataConfig, SourceConfig
from tercet.data_pipelines.source import Source
from tercet.training.checkpoints.commit import place
from tercet.training.config import RunConfig
from tercet.training.episodes.config import draws
from tercet.training.episodes.store import EPISODES, KEPT, MEMORIES, NEIGHBORS, SAMPLES
from tercet.training.prototypes.config import batch_clusters


def data_after(stage: RunConfig, step: int | None, sources: Mapping[str, Source], folder: Path) -> DataConfig:
    """The data of a stage after the episode of a step: the list, the graph and the clusters of each source are in its
    folder.

    Without an episode, and for a source that it did not have, a stage trains on all samples, without neighbours or
    clusters.
    """
    if step is None:
        return stage.data
    episode = place(folder / EPISODES, step)
    train = {
        name: one.model_copy(update=_update(stage, name, one, sources[name].fingerprint, episode))
        for name, one in stage.data.train.items()
    }
    return stage.data.model_copy(update={"train": train})


def _update(stage: RunConfig, name: str, source: SourceConfig, fingerprint: str, episode: Path) -> dict[str, object]:
    update: dict[str, object] = {}
    chosen = episode / (KEPT if stage.episodes and stage.episodes.curate else SAMPLES)
    if draws(stage) and has_column(chosen, fingerprint):
        update["list"] = str(chosen)
    graph = episode / NEIGHBORS / name
    if source.neighbors and source.neighbors.graph == EPISODE and has_column(graph, fingerprint):
        update["neighbors"] = source.neighbors.model_copy(update={"graph": str(graph)})
    if name in batch_clusters(stage):
        column = episode.joinpath(MEMORIES, *batch_clusters(stage)[name])
        if source.clusters and has_column(column, fingerprint):
            update["clusters"] = source.clusters.model_copy(update={"column": str(column)})
    return update


def begins_anew(stage: RunConfig) -> bool:
    """Whether the order after an episode begins at the start of an epoch, because it has other samples or clusters."""
    return draws(stage) or bool(batch_clusters(stage))
