"""Changes the data of a run between two of its steps: holds episodes, and changes the weights of sources."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.preflight.batch_size import check_batch_size
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.models.multimodal import Multimodal, build_model
from tercet.training.checkpoints.plans import cursors_for, note_plan
from tercet.training.checkpoints.progress import Progress
from tercet.training.checkpoints.reader import fill
from tercet.training.config import RunConfig
from tercet.training.episodes.episodes import Episodes
from tercet.training.episodes.orders import begins_anew
from tercet.training.loop.stage import Stage
from tercet.training.memory.memories import Memories
from tercet.training.source_weights.source_weights import SourceWeights, with_plan


class DataChanges:
    """The episodes of a run and the weights of its sources, in its folder. Every method is a collective."""

    def __init__(self, config: RunConfig, folder: Path, world: World, sources: OpenedSources) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.episodes = Episodes(folder, world, sources)
        self.weights = SourceWeights(folder, world, sources)

    def check(self, stage: RunConfig, plan: Plan, model: Multimodal) -> None:
        """Refuses a stage whose sources cannot change their weights."""
        self.weights.check(stage, plan, model)

    def data(self, stage: RunConfig, progress: Progress, begun: bool) -> DataConfig:
        """The data of a stage after the last change. `begun`: a checkpoint is of this stage."""
        data = self.episodes.data(stage, progress.episode)
        return self.weights.resumed(data, stage, progress) if begun else data

    def recall(self, progress: Progress, memories: Memories, sources: Sequence[SourceIds]) -> None:
        """Lets the memories of a stage take what they computed at the last episode."""
        if progress.episode is not None:
            self.episodes.recall(progress.episode, memories, sources)

    def after(self, stage: Stage, progress: Progress) -> int:
        """The next step at which something changes, or else the end of the stage."""
        due = chain(self._episode_steps(stage), self._weight_steps(stage))
        return min((step for step in due if step > progress.step), default=stage.steps.stop)

    def make(self, stage: Stage, progress: Progress) -> tuple[Stage, Progress]:
        """Makes the changes of this step. The engine and the optimizer stay."""
        if progress.step in self._episode_steps(stage) and progress.episode != progress.step:
            stage, progress = self._episode(stage, progress)
        if progress.step in self._weight_steps(stage):
            stage = self._change_weights(stage, progress)
        return stage, progress

    def _episode(self, stage: Stage, progress: Progress) -> tuple[Stage, Progress]:
        """Holds the episode of this step, and reopens the loader."""
        self.episodes.hold(stage, self._copy(stage), progress.step)
        config, cursors = stage.config, cursors_for(self.config, stage.config, progress)
        data = self.episodes.data(config, progress.step)
        data = with_plan(data, stage.loader.plan) if config.source_weights else data
        assert isinstance(stage.loader, Loader)  # streams have no episodes
        reopen = stage.loader.redrawn if begins_anew(config) else stage.loader.reopened
        loader = reopen(data, cursors)
        check_batch_size(loader.plan, config.batch_size, config.drawn)
        if self.world.first:
            note_plan(loader.plan, progress, self.folder)
        progress = replace(progress, episode=progress.step, cursors={**progress.cursors, **loader.cursors})
        return replace(stage, loader=loader), progress

    def _change_weights(self, stage: Stage, progress: Progress) -> Stage:
        """Reopens the loader with new weights of the sources. Each source goes on after its last sample."""
        data = self.episodes.data(stage.config, progress.episode)
        data = self.weights.change(stage, self._copy(stage), data, progress.step)
        assert isinstance(stage.loader, Loader)  # streams have one source
        loader = stage.loader.reopened(data, progress.cursors)
        if self.world.first:
            note_plan(loader.plan, progress, self.folder)
        return replace(stage, loader=loader)

    def _copy(self, stage: Stage) -> Multimodal:
        """A plain copy of the model with the weights of this step."""
        config = stage.config
        model = build_model(config.model, config.terms, config.seed).to(self.world.device)
        fill(model, dict(stage.engine.weights()))
        return model

    @staticmethod
    def _episode_steps(stage: Stage) -> range:
        """The steps at which the stage holds an episode."""
        episodes = stage.config.episodes
        return episodes.steps_in(stage.steps) if episodes else range(0)

    @staticmethod
    def _weight_steps(stage: Stage) -> range:
        """The steps at which the weights of the sources change."""
        changed = stage.config.source_weights
        return changed.steps_in(stage.steps) if changed else range(0)
