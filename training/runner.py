"""One run in its folder: builds each stage from the config, takes it from wherever it stands, and evaluates it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tercet.data_pipelines.batches.batches import Batches
from tercet.data_pipelines.columns import COLUMNS
from tercet.data_pipelines.fields import FieldSpec, further_fields
from tercet.data_pipelines.open import open_loader
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import RunStopped
from tercet.modality import modality_of
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal, build_model, check_trainable
from tercet.training.build_engine import build_engine
from tercet.training.checkpoint import current_weights, restore_moments, save, save_again
from tercet.training.checkpoint_reader import CHECKPOINTS, Origin, Saved, fill, resume_point
from tercet.training.commit import place, prune
from tercet.training.config import RunConfig
from tercet.training.hooks.hook import RunInfo
from tercet.training.hooks.hooks import Hooks, open_hooks
from tercet.training.hooks.metrics_file import forget_after
from tercet.training.initial_weights import begin
from tercet.training.interruption import Interruption
from tercet.training.memory.memories import build_memories
from tercet.training.memory.memory import StageContext
from tercet.training.optimizers import build_optimizer
from tercet.training.plans import check_plan, cursors_for, note_plan
from tercet.training.progress import Progress
from tercet.training.run_evaluation import RunEvaluation
from tercet.training.selection.record import SELECTED
from tercet.training.selection.select import Selection
from tercet.training.step import Step
from tercet.training.trainer import Occasions, Stage, Trainer


class Runner:
    """A run from its start, or its resumption, to its end. Every rank holds one."""

    def __init__(self, config: RunConfig, folder: Path, world: World, sources: OpenedSources | None = None) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.sources = sources or OpenedSources()
        self.evaluation = RunEvaluation(config, folder, world, self.sources)
        self._last_saved: int | None = None

    def finish(self) -> None:
        """Trains what is left of every stage, then evaluates the result."""
        saved = self._resume_point()
        origin: Origin | None = saved or begin(self.config, self.world)
        progress = origin.progress if origin else Progress()
        if saved:
            self.evaluation.resume(progress.step)
        if self.world.first:
            forget_after(self.folder / SELECTED, progress.step)
        interruption = Interruption(self.world)
        with self._hooks(progress) as hooks:
            trainer = Trainer(
                self.world, hooks, Occasions(self._save, self._evaluate, interruption.asked), self.config.steps
            )
            for index in range(progress.stage, self._stages):
                stage = self._build(index, origin)
                origin = None  # whose tensors would stay in memory
                if saved is None and index == progress.stage:
                    self._begin(stage, progress)
                if saved is None or (progress.step < stage.steps.stop and not self._enough(stage)):
                    with interruption.watched():
                        progress = trainer.run(stage, progress)
                        self._close(stage, progress, interruption.asked())
                    if interruption.asked():
                        raise RunStopped(interruption.signal, progress.step)
                if self._enough(stage):
                    break
                if index + 1 < self._stages:
                    origin = self._resume_point()
        stage.memories.finish(self.folder / COLUMNS)
        self._conclude(stage)

    def _begin(self, stage: Stage, progress: Progress) -> None:
        """Before the first step. A run that may end early may find nothing better than this."""
        if self.evaluation.compares_with_start:
            self.evaluation.begin(self._copy(stage), progress.step)
            if self.config.early_stopping:
                self._save(stage, progress)

    def _close(self, stage: Stage, progress: Progress, stopped: bool) -> None:
        """A stage's last checkpoint, or that of the step at which a signal stopped it. Where evaluations decide, the
        checkpoint of the run's end is its best."""
        if stopped and progress.step < stage.steps.stop and not self._enough(stage):
            self._save(stage, progress)
            return
        if self.config.early_stopping and not self._enough(stage):
            self._evaluate(stage, progress)
        standing = self.evaluation.standing(stage.steps.start)
        ends = stage.index + 1 == self._stages or self._enough(stage)
        if standing and ends and standing.best != progress.step:
            best = Saved(place(self.folder / CHECKPOINTS, standing.best))
            save_again(self.folder / CHECKPOINTS, best, progress, self.world)
        else:
            self._save(stage, progress)

    def _enough(self, stage: Stage) -> bool:
        """Whether so many evaluations of a stage brought nothing better that the run ends."""
        standing = self.evaluation.standing(stage.steps.start)
        limit = self.config.early_stopping
        return standing is not None and limit is not None and standing.stalled >= limit.patience

    @property
    def _stages(self) -> int:
        return max(len(self.config.stages), 1)

    def _resume_point(self) -> Saved | None:
        return resume_point(self.folder / CHECKPOINTS, self.world)

    @contextmanager
    def _hooks(self, progress: Progress) -> Iterator[Hooks]:
        """Only the first rank tells of the run."""
        hooks = open_hooks(self.config.log, self.folder) if self.world.first else Hooks([])
        about = self.config.model_dump(mode="json")
        hooks.start(RunInfo(self.config.name, self.folder, self.config.steps, progress.step, about))
        try:
            yield hooks
        finally:
            hooks.stop()

    def _build(self, index: int, origin: Origin | None) -> Stage:
        config, world = self.config.stage(index), self.world
        model = self._fresh(config)
        if origin:
            origin.fill(model)
        check_trainable(model, config.model)
        further = further_fields(model.fields, config.fields, model.intakes)
        model.check_sizes({name: field.intake for name, field in further.items()})
        engine = build_engine(model.train(), build_optimizer(model, config), config, world)
        loader = self._loader(config, model, further, origin.progress if origin else Progress())
        memories = build_memories(StageContext(config, engine, model.head.dim, loader.plan, loader.sources, world))
        if origin:
            restore_moments(origin, engine)
            memories.restore(origin)
        terms = Terms(config.terms, config.tile, {name: field.rows for name, field in further.items()})
        step = Step(engine, terms, world, config.seed, config.micro_batch, memories)
        name = self.config.stages[index].name if self.config.stages else ""
        stage = Stage(name, index, config, engine, step, memories, loader, self._steps(index))
        if config.selection is None:
            return stage
        return replace(stage, select=Selection(config.selection, config.batch_size, step, self.folder))

    def _loader(
        self, config: RunConfig, model: Multimodal, further: Mapping[str, FieldSpec], progress: Progress
    ) -> Batches:
        """From wherever each source stands. A plan that differs from the checkpoint's takes effect here."""
        cursors = cursors_for(self.config, config, progress)
        learned = sorted({modality_of(field) for field in model.fields})
        intakes = {name: intake for name, intake in model.intakes.items() if name in model.fields}
        loader = open_loader(
            config.data, intakes, config.drawn, config.seed, self.world, cursors, self.folder, learned, self.sources,
            further,
        )  # fmt: skip
        check_plan(self.config, config, loader.plan, progress, self.folder)
        if self.world.first:
            note_plan(loader.plan, progress, self.folder)
        return loader

    def _steps(self, index: int) -> range:
        lengths = self.config.lengths
        return range(sum(lengths[:index]), sum(lengths[: index + 1]))

    def _fresh(self, config: RunConfig) -> Multimodal:
        return build_model(config.model, config.terms, config.seed).to(self.world.device)

    def _save(self, stage: Stage, progress: Progress) -> None:
        """The ranks of an indexed run stand at one place; of a stream, each at its own, and the least is the run's."""
        ranks = self.world.gather_objects(progress.cursors)
        least = {name: min(cursors[name] for cursors in ranks) for name in progress.cursors}
        progress = replace(progress, cursors=least)
        if progress.step == self._last_saved:
            return
        save(self.folder / CHECKPOINTS, stage.engine, stage.memories, progress, self.world)
        self._last_saved = progress.step
        best = self.evaluation.standing(stage.steps.start)
        if self.world.first:
            prune(self.folder / CHECKPOINTS, self.config.checkpoint.keep, best.best if best else None)

    def _evaluate(self, stage: Stage, progress: Progress) -> bool:
        """In the middle of a run; whether it has seen enough. What is better than all before is kept."""
        self.evaluation.note(self._copy(stage), progress.step)
        standing = self.evaluation.standing(stage.steps.start)
        if standing and standing.best == progress.step:
            self._save(stage, progress)
        return self._enough(stage)

    def _copy(self, stage: Stage) -> Multimodal:
        """A plain copy of the model as it would be evaluated, filled by name. A collective."""
        model = self._fresh(stage.config)
        fill(model, current_weights(stage.engine, stage.memories))
        return model

    def _conclude(self, stage: Stage) -> None:
        """What the run's last checkpoint holds is what it came to."""
        saved = self._resume_point()
        assert saved is not None  # it has just been written
        model = self._fresh(stage.config)
        fill(model, saved.weights(averaged=True))
        self.evaluation.conclude(model, stage.config, saved.progress.step)
