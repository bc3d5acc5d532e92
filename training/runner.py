"""Trains one run in its folder: builds each stage, resumes it from the last checkpoint, and evaluates the result."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tercet.data_pipelines.batches.batches import Batches
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.columns import COLUMNS
from tercet.data_pipelines.fields import FieldSpec, further_fields, own_fields
from tercet.data_pipelines.open import open_loader
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import RunStopped
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal, build_model, check_trainable
from tercet.training.checkpoints.commit import place, prune
from tercet.training.checkpoints.plans import check_plan, cursors_for, note_plan
from tercet.training.checkpoints.progress import Progress
from tercet.training.checkpoints.reader import CHECKPOINTS, Origin, Saved, fill, resume_point
from tercet.training.checkpoints.writer import restore_moments, save, save_again
from tercet.training.config import RunConfig
from tercet.training.data_changes import DataChanges
from tercet.training.engines.build import build_engine
from tercet.training.engines.optimizers import build_optimizer
from tercet.training.evaluation.run import RunEvaluation
from tercet.training.features.cached import decoded
from tercet.training.features.soft_retrieval import SoftRetrieval
from tercet.training.features.towers import stored_fields, training_intakes
from tercet.training.hooks.hook import RunInfo
from tercet.training.hooks.hooks import Hooks, open_hooks
from tercet.training.hooks.metrics_file import forget_after
from tercet.training.initial_weights import begin
from tercet.training.loop.flops import count_flops
from tercet.training.loop.interruption import Interruption
from tercet.training.loop.scoring import build_scoring
from tercet.training.loop.stage import Stage
from tercet.training.loop.step import Step
from tercet.training.loop.trainer import Callbacks, Trainer
from tercet.training.memory.config import EMA
from tercet.training.memory.memories import build_memories
from tercet.training.memory.memory import StageContext
from tercet.training.mixup.mixup import build_mixup
from tercet.training.selection.examples import EXAMPLES
from tercet.training.selection.record import SELECTED
from tercet.training.selection.select import MEMORY as SELECTION_MEMORY
from tercet.training.selection.select import Selection


class Runner:
    """Trains a run to its end, from its start or its last checkpoint. Every rank has one."""

    def __init__(self, config: RunConfig, folder: Path, world: World, sources: OpenedSources | None = None) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.sources = sources or OpenedSources()
        self.evaluation = RunEvaluation(config, folder, world, self.sources)
        self.changes = DataChanges(config, folder, world, self.sources)
        self._last_saved: int | None = None

    def finish(self) -> None:
        """Takes the steps of all stages that are still to do, then evaluates the result."""
        saved = self._resume_point()
        origin: Origin | None = saved or begin(self.config, self.world)
        progress = origin.progress if origin else Progress()
        if saved:
            self.evaluation.resume(progress.step)
        if self.world.first:
            for name in (SELECTED, EXAMPLES):
                forget_after(self.folder / name, progress.step)
        interruption = Interruption(self.world)
        with self._hooks(progress) as hooks:
            callbacks = Callbacks(self._save, self._evaluate, interruption.requested)
            trainer = Trainer(self.world, hooks, callbacks, self.config.steps)
            for index in range(progress.stage, self._stages):
                stage = self._build(index, origin)
                origin = None  # frees its tensors
                if saved is None and index == progress.stage:
                    self._begin(stage, progress)
                if saved is None or (progress.step < stage.steps.stop and not self._ends_early(stage)):
                    with interruption.watched():
                        stage, progress = self._train(trainer, stage, progress, interruption)
                        self._close(stage, progress, interruption.requested())
                    if interruption.requested():
                        raise RunStopped(interruption.signal, progress.step)
                if self._ends_early(stage):
                    break
                if index + 1 < self._stages:
                    del stage
                    gc.collect()  # frees the memory of this stage's engine before the next one is built
                    origin = self._resume_point()
        stage.memories.finish(self.folder / COLUMNS)
        self._conclude(stage)

    def _train(
        self, trainer: Trainer, stage: Stage, progress: Progress, interruption: Interruption
    ) -> tuple[Stage, Progress]:
        """Takes the steps of a stage that are still to do, and changes its data between them."""
        ended = False
        while not ended:
            stage, progress = self.changes.make(stage, progress)
            progress = trainer.run(stage, progress, self.changes.after(stage, progress))
            ended = progress.step == stage.steps.stop or interruption.requested() or self._ends_early(stage)
        return stage, progress

    def _begin(self, stage: Stage, progress: Progress) -> None:
        """Evaluates the weights before the first step. Also saves them if the run keeps its best ones."""
        if self.evaluation.compares_with_start:
            self.evaluation.begin(self._copy(stage), progress.step)
            if self.config.best:
                self._save(stage, progress)

    def _close(self, stage: Stage, progress: Progress, stopped: bool) -> None:
        """Saves the last checkpoint of the stage, or that of the step at which a signal stopped the run. With early
        stopping, the last checkpoint of the run holds its best weights."""
        if stopped and progress.step < stage.steps.stop and not self._ends_early(stage):
            self._save(stage, progress)
            return
        if self.config.early_stopping and not self._ends_early(stage):
            self._evaluate(stage, progress)
        ends = stage.index + 1 == self._stages or self._ends_early(stage)
        best = self.evaluation.best() if self.config.early_stopping and ends else None
        if best is not None and best != progress.step:
            saved = Saved(place(self.folder / CHECKPOINTS, best))
            save_again(self.folder / CHECKPOINTS, saved, progress, self.world)
        else:
            self._save(stage, progress)

    def _ends_early(self, stage: Stage) -> bool:
        """Whether early stopping ends the run: the last `patience` evaluations of the stage brought no improvement."""
        history = self.evaluation.history(stage.steps.start)
        limit = self.config.early_stopping
        return history is not None and limit is not None and history.stalled >= limit.patience

    @property
    def _stages(self) -> int:
        return max(len(self.config.stages), 1)

    def _resume_point(self) -> Saved | None:
        return resume_point(self.folder / CHECKPOINTS, self.world)

    @contextmanager
    def _hooks(self, progress: Progress) -> Iterator[Hooks]:
        """Opens the loggers, on the first rank only."""
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
        self.evaluation.evaluator.open(model.intakes)
        further = further_fields(model.fields, config.fields, model.intakes)
        model.check_sizes({name: field.intake for name, field in further.items()})
        scoring = build_scoring(config.selection.scoring if config.selection else None, model, self.world.device)
        intakes = training_intakes(model, config.model)
        fields = {**own_fields(intakes), **further, **stored_fields(model, config.fields)}
        retrieval = SoftRetrieval(config.fields, model, self.world.device)
        inputs = {name: field.intake for name, field in fields.items()}
        flops = count_flops(model, inputs, config.micro_batch, scoring) if config.selection else None
        engine = build_engine(model.train(), build_optimizer(model, config), config, world)
        small = scoring.decoded_small(fields)
        again = {name: fields[name] for name in small}
        drawn = {name: field for name, field in {**fields, **small}.items() if name not in retrieval.memories}
        loader = self._loader(index, config, drawn, again, origin.progress if origin else Progress())
        self.changes.check(config, loader.plan, model)
        dim, plan, sources = model.head.dim, loader.plan, loader.sources
        context = StageContext(config, engine, dim, plan, sources, world, fields)
        memories = build_memories(context)
        if origin:
            restore_moments(origin, engine)
            memories.restore(origin)
            self.changes.recall(origin.progress, memories, sources)
        counts = {name: field.rows for name, field in further.items()}
        paired = {name: field.paired for name, field in further.items() if field.paired}
        terms = Terms(config.terms, config.tile, counts, self._steps(index), config.seed, paired)
        mix = build_mixup(config.mixup, config.batch_size, config.seed, world)
        step = Step(engine, terms, world, config.seed, config.micro_batch, memories, scoring, mix)
        name = self.config.stages[index].name if self.config.stages else ""
        for field, memory in retrieval.memories.items():
            memories.add(f"retrieval-{field}", memory.files, origin)
        stage = Stage(name, index, config, engine, step, memories, loader, self._steps(index), retrieve=retrieval)
        if config.selection is None:
            return stage
        context = replace(context, fields={**fields, **small})
        decode = loader.again if isinstance(loader, Loader) else None
        selection = Selection(config.selection, config.batch_size, step, self.folder, context, flops, decode)
        if selection.rule.memory:
            memories.add(SELECTION_MEMORY, selection.rule.memory, origin)
        return replace(stage, select=selection)

    def _loader(
        self,
        index: int,
        config: RunConfig,
        fields: Mapping[str, FieldSpec],
        again: Mapping[str, FieldSpec],
        progress: Progress,
    ) -> Batches:
        """Opens the data where the last checkpoint left off. A new plan takes effect here."""
        cursors = cursors_for(self.config, config, progress)
        learned = decoded(config, fields)
        intakes = {name: field.intake for name, field in fields.items() if name == field.modality}
        further = {name: field for name, field in fields.items() if name not in intakes}
        data = self.changes.data(config, progress, begun=index == progress.stage)
        loader = open_loader(
            data, intakes, config.drawn, config.seed, self.world, cursors, self.folder, learned, self.sources, further,
            again,
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
        """Saves a checkpoint, unless this step has one. Deletes old ones."""
        # Cursors are equal on all ranks for indexed data. For streams they differ, and the run resumes at the lowest.
        ranks = self.world.gather_objects(progress.cursors)
        least = {name: min(cursors[name] for cursors in ranks) for name in progress.cursors}
        progress = replace(progress, cursors=least)
        if progress.step == self._last_saved:
            return
        save(self.folder / CHECKPOINTS, stage.engine, stage.memories.state(), progress, self.world)
        self._last_saved = progress.step
        best = self.evaluation.best()
        if self.world.first:
            prune(self.folder / CHECKPOINTS, self.config.checkpoint.keep, best)
        self.changes.episodes.prune(progress.episode)

    def _evaluate(self, stage: Stage, progress: Progress) -> bool:
        """Evaluates during the run, and saves the weights if they are the best so far. Returns whether the run ends."""
        self.evaluation.note(self._copy(stage), progress.step)
        if self.evaluation.best(progress.step) == progress.step:
            self._save(stage, progress)
        return self._ends_early(stage)

    def _copy(self, stage: Stage) -> Multimodal:
        """A copy of the model with the weights that evaluation uses: their moving averages, if the run keeps them. A
        collective."""
        model = self._fresh(stage.config)
        fill(model, dict(stage.engine.weights()) | stage.memories.whole(EMA))
        return model

    def _conclude(self, stage: Stage) -> None:
        """Evaluates the weights of the last checkpoint."""
        saved = self._resume_point()
        assert saved is not None  # the run has just written it
        model = self._fresh(stage.config)
        fill(model, saved.weights(averaged=True))
        self.evaluation.conclude(model, stage.config, saved.progress.step)
