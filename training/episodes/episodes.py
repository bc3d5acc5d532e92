"""Holds the episodes of a run: embeds samples, lets every memory compute from the vectors, and keeps the results."""

from collections.abc import Sequence
from pathlib import Path

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.models.multimodal import Multimodal
from tercet.training.checkpoints.commit import committed, step_of
from tercet.training.checkpoints.reader import CHECKPOINTS
from tercet.training.config import RunConfig
from tercet.training.episodes.curate import curated
from tercet.training.episodes.embed import SampleEmbedder, drawn, trained_ids
from tercet.training.episodes.neighbors import neighbor_graphs
from tercet.training.episodes.orders import data_after
from tercet.training.episodes.store import EPISODES, MEMORIES, find_episode, prune_episodes, write_episode
from tercet.training.loop.stage import Stage
from tercet.training.memory.memories import Memories


class Episodes:
    """The episodes of a run, in its folder. Every method is a collective.

    Memories read what they computed from the committed folder, after an episode as well as when a run resumes. So both
    give the same bits.
    """

    def __init__(self, folder: Path, world: World, sources: OpenedSources) -> None:
        self.folder, self.world, self.sources = folder, world, sources

    def hold(self, stage: Stage, model: Multimodal, step: int) -> None:
        """Holds the episode of a step. `model`: a plain copy with the weights of that step."""
        config, data = stage.config, stage.config.data
        assert config.episodes is not None
        sources = {name: self.sources.open(data, split) for name, split in data.train.items()}
        ids = drawn(trained_ids(data, sources), config.episodes.samples, config.seed, step)
        episode = SampleEmbedder(config, config.episodes, model, self.world)(sources, ids, step)
        graphs = neighbor_graphs(episode, data.train, stage.loader.sources)
        learned = stage.memories.episode(episode)
        kept = None
        if config.episodes.curate:
            by_name = dict(zip(data.train, stage.loader.sources, strict=True))
            kept = curated(episode, config.episodes.curate, model, by_name, config.drawn)
        folder = write_episode(self.folder / EPISODES, episode, graphs, learned, stage.loader.sources, kept)
        stage.memories.recall(folder / MEMORIES, stage.loader.sources)
        self.prune(step)

    def data(self, stage: RunConfig, step: int | None) -> DataConfig:
        """The data of a stage, with the lists and graphs of the last episode."""
        if step is None:
            return stage.data
        sources = {name: self.sources.open_first(stage.data, one, self.world) for name, one in stage.data.train.items()}
        return data_after(stage, step, sources, self.folder)

    def recall(self, step: int, memories: Memories, sources: Sequence[SourceIds]) -> None:
        """Lets the memories of a stage take what they computed at an earlier episode."""
        memories.recall(find_episode(self.folder / EPISODES, step, self.world) / MEMORIES, sources)

    def prune(self, current: int | None) -> None:
        """Deletes the episodes that no checkpoint needs. Call it also after old checkpoints were deleted."""
        if self.world.first and current is not None:
            kept = [step_of(path) for path in committed(self.folder / CHECKPOINTS)]
            prune_episodes(self.folder / EPISODES, current, kept)
