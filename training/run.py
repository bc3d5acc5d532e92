"""Builds a run from its config, and takes it from wherever it stands to its report."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from torch import Tensor

from tercet.configs.recipe import dump, load_recipe
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.loader import Loader
from tercet.data_pipelines.shards.index import find_shards
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.distributed import World, join, leave
from tercet.errors import UserError
from tercet.eval.examine import Examined, Examiner, sound_rate
from tercet.eval.report.gallery import galleries
from tercet.eval.report.write import write_report
from tercet.eval.result import Result, to_json
from tercet.eval.table import render
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal, build_model
from tercet.provenance import facts
from tercet.training.average import Average
from tercet.training.checkpoint import Progress, Saved, current_weights, restore, save
from tercet.training.commit import newest
from tercet.training.config import RunConfig
from tercet.training.engine import Engine
from tercet.training.folder import CHECKPOINTS, open_folder
from tercet.training.hooks.hook import RunInfo
from tercet.training.hooks.hooks import Hooks, open_hooks
from tercet.training.optimizers import build_optimizer
from tercet.training.step import Step
from tercet.training.trainer import Occasions, Stage, Trainer

RESULTS, EVALUATIONS, REPORT = "eval.json", "evaluations.jsonl", "report.html"


def train(config: RunConfig) -> Path:
    """Runs, or goes on with, what the config says; returns the run's folder."""
    check_data(config)
    with joined() as world, open_folder(config, world) as folder:
        Run(config, folder, world).finish()
    return folder


def evaluate_run(folder: Path, tasks: tuple[str, ...] = ()) -> list[Result]:
    """The results of a run's newest checkpoint on its own held-out splits."""
    config = load_recipe(str(folder))
    with joined() as world:
        saved = resume_point(folder, world)
        if saved is None:
            raise UserError(f"{folder} holds no checkpoint that verifies; train it first: tercet train {folder}")
        stage = config.stage(saved.progress.stage)
        model = build_model(stage.model, stage.terms, stage.seed)
        fill(model, saved.weights(averaged=True))
        chosen = config.eval.model_copy(update={"tasks": tasks or config.eval.tasks})
        return Examiner(config.data, chosen, world)(model.to(world.device)).results


@contextmanager
def joined() -> Iterator[World]:
    world = join()
    try:
        yield world
    finally:
        leave()


def check_data(config: RunConfig) -> None:
    """What is missing is said before anything is built."""
    for spec in (config.data.train, *config.data.val.values()):
        find_shards(spec)


def resume_point(folder: Path, world: World) -> Saved | None:
    """The newest checkpoint that verifies; the first rank says which ones it passed over."""
    found = world.broadcast(newest(folder / CHECKPOINTS) if world.first else None)
    assert found is not None
    if world.first:
        for name in found.passed_over:
            Console(stderr=True).print(f"[yellow]passed over the checkpoint {name}[/yellow]")
    return None if found.path is None else Saved(found.path)


def fill(model: Multimodal, weights: dict[str, Tensor]) -> None:
    """Weights by name. Temperatures may come and go with the terms of a stage; nothing else may differ."""
    problems = model.load_state_dict(weights, strict=False)
    odd = [key for key in (*problems.missing_keys, *problems.unexpected_keys) if not key.startswith("head.temperatures.")]
    if odd:
        raise UserError(f"the checkpoint does not fit the model: {odd[0]} (and {len(odd) - 1} more); was the recipe changed?")


class Run:
    """One run in its folder."""

    def __init__(self, config: RunConfig, folder: Path, world: World) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.examiner = Examiner(config.data, config.eval, world)

    def finish(self) -> None:
        """Trains what is left of every stage, then examines what came of it."""
        saved = resume_point(self.folder, self.world)
        progress = saved.progress if saved else Progress()
        with self._hooks(progress) as hooks:
            trainer = Trainer(self.world, hooks, Occasions(self._save, self._evaluate), self.config.steps)
            for index in range(progress.stage, self.stages):
                stage = self._build(index, saved)
                if progress.step < stage.steps.stop:
                    progress = trainer.run(stage, progress)
                    self._save(stage, progress)
                saved = resume_point(self.folder, self.world) if index + 1 < self.stages else None
        self._conclude(stage)

    @property
    def stages(self) -> int:
        return max(len(self.config.stages), 1)

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

    def _build(self, index: int, saved: Saved | None) -> Stage:
        config, world = self.config.stage(index), self.world
        model = self._fresh(config)
        if saved:
            fill(model, saved.weights(averaged=False))
        engine = Engine(model.train(), build_optimizer(model, config), config, world)
        average = Average(engine, config.ema) if config.ema else None
        if saved:
            restore(saved, engine, average)
        loader = Loader(
            open_shards(config.data.train), model.intakes, config.batch_size,
            seed=config.seed, rank=world.rank, world=world.size, start=saved.progress.samples if saved else 0,
            workers=config.data.workers, crop=config.data.crop, max_bad=config.data.max_bad, folder=self.folder,
        )  # fmt: skip
        step = Step(engine, Terms(config.terms, config.tile), world, config.seed, config.micro_batch)
        name = self.config.stages[index].name if self.config.stages else ""
        return Stage(name, index, config, engine, step, average, loader, self._steps(index))

    def _steps(self, index: int) -> range:
        lengths = [stage.steps for stage in self.config.stages] or [self.config.steps]
        return range(sum(lengths[:index]), sum(lengths[: index + 1]))

    def _fresh(self, config: RunConfig) -> Multimodal:
        return build_model(config.model, config.terms, config.seed).to(self.world.device)

    def _save(self, stage: Stage, progress: Progress) -> None:
        save(self.folder / CHECKPOINTS, stage.engine, stage.average, progress, self.config.checkpoint.keep, self.world)

    def _evaluate(self, stage: Stage, progress: Progress) -> None:
        """In the middle of a run: the numbers alone, beside those of other steps."""
        examined = self.examiner(self._copy(stage))
        if self.world.first:
            line = {"step": progress.step, "results": to_json(examined.results, self.config.name)}
            with (self.folder / EVALUATIONS).open("a", encoding="utf-8") as lines:
                print(json.dumps(line), file=lines)

    def _copy(self, stage: Stage) -> Multimodal:
        """A plain copy of the model as it would be evaluated, filled by name. A collective."""
        model = self._fresh(stage.config)
        fill(model, current_weights(stage.engine, stage.average))
        return model

    def _conclude(self, stage: Stage) -> None:
        if not self.config.data.val:
            return
        model, untrained = self._copy(stage), self._fresh(stage.config)
        examined = self.examiner(model, untrained if self.config.eval.cheats else None)
        if self.world.first:
            write_json(self.folder / RESULTS, to_json(examined.results, self.config.name))
            Console().print(render(examined.results))
            if self.config.eval.report:
                report(self.config, self.folder, model, examined)


def report(config: RunConfig, folder: Path, model: Multimodal, examined: Examined) -> Path:
    """The page about a finished run, with galleries from its first held-out split."""
    split, table = next(iter(examined.tables.items()))
    decode = Decoder(open_shards(config.data.val[split]), model.intakes)
    shown = galleries(table, lambda id: decode(id, CentreView()), sound_rate(model), config.eval.candidates)
    return write_report(folder, config.name, examined.results, shown, dump(config), facts())


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def demo(out: Path | None = None) -> Path:
    """From nothing to a report: generates the built-in world, trains the recipe `demo` on it and examines it."""
    overrides = [f"out={out}"] if out else []
    config = load_recipe("demo", overrides)
    generate(WorldConfig(), Path(config.data.train).parent)
    return train(config) / REPORT
