"""How a run is examined: before it, while it trains, and when it has ended, with all that is written about it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.eval.evaluator import Evaluated, Evaluator
from tercet.eval.load_tasks import load_tasks
from tercet.eval.report.write import write_report
from tercet.eval.result import Json, Result, to_json
from tercet.eval.table import render
from tercet.models.multimodal import Multimodal, build_model
from tercet.provenance import facts
from tercet.training.config import RunConfig
from tercet.training.evaluations import EvaluationHistory, Evaluations, kind_of
from tercet.training.recipe import dump
from tercet.training.wise_ft import InterpolatedModel, Interpolation, along, best, check_start, keep_start, told

TABLE_WIDTH = 110  # where the output is no terminal, or a narrow one
RESULTS, EVALUATIONS, REPORT, BEFORE = "eval.json", "evaluations.jsonl", "report.html", "before.json"


class RunEvaluation:
    """Examines one run on its held-out splits, in its folder. Every method is a collective."""

    def __init__(self, config: RunConfig, folder: Path, world: World, sources: OpenedSources | None = None) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.evaluator = Evaluator(config.data, config.eval, world, sources)
        self.evaluations = Evaluations(folder / EVALUATIONS)

    @property
    def looks_back(self) -> bool:
        """Whether the run's end is compared with its beginning."""
        return bool(self.config.data.val) and (self.config.eval.before or bool(self.config.eval.wise_ft))

    def begin(self, model: Multimodal, step: int) -> None:
        """What the run's end will be compared with, from the weights that it begins with."""
        self._forget_after(-1)  # what a run left behind that ended before its first checkpoint
        if self.config.eval.wise_ft and self.world.first:
            keep_start(self.folder, model, self.config)
        if self.config.eval.before:
            results = self.note(model, step)
            if self.world.first:
                _write(self.folder / BEFORE, results)

    def resume(self, step: int) -> None:
        if self.config.eval.wise_ft and self.config.data.val:
            check_start(self.folder)
        self._forget_after(step)

    def _forget_after(self, step: int) -> None:
        if self.world.first:
            self.evaluations.forget_after(step)

    def note(self, model: Multimodal, step: int) -> list[Json]:
        """In the middle of a run: the numbers alone, beside those of other steps."""
        results = to_json(self.evaluator(model).results, self.config.name)
        if self.world.first:
            self.evaluations.add(step, results)
        return results

    def standing(self, start: int) -> EvaluationHistory | None:
        """How a run stands that may stop early, from step `start` of its stage on; all ranks agree."""
        if self.config.early_stopping is None:
            return None
        mine = self.evaluations.standing(self.config.early_stopping, start) if self.world.first else None
        return self.world.broadcast(mine)

    def conclude(self, model: Multimodal, stage: RunConfig, step: int) -> None:
        """The numbers, what stands beside them, and the report about it all."""
        if not self.config.data.val:
            return
        examined = self.evaluator(model, untrained=self._untrained(stage) if self.config.eval.shortcuts else None)
        places = self._between(model, stage) if self.config.eval.wise_ft else []
        standing = self.standing(0)
        if self.world.first:
            results = beside_before(examined.results, self.folder / BEFORE)
            notes = stopped(standing, step) | told(places, self.folder, self.config.eval.keep_wise_ft)
            self._write(model, Evaluated(results, examined.tables), places, notes)

    def _untrained(self, stage: RunConfig) -> Multimodal:
        return build_model(stage.model, stage.terms, stage.seed).to(self.world.device)

    def _between(self, model: Multimodal, stage: RunConfig) -> list[InterpolatedModel]:
        """Places between the weights before and after the run; the best of them is kept where that is asked for."""
        line = Interpolation(stage, self.folder, model.state_dict())
        places = line.examined(lambda there: self.evaluator(there.to(self.world.device)).results)
        if self.config.eval.keep_wise_ft and self.world.first:
            line.keep(best(places), self.folder)
        return places

    def _write(
        self, model: Multimodal, examined: Evaluated, places: list[InterpolatedModel], notes: Mapping[str, str]
    ) -> None:
        _write(self.folder / RESULTS, along(to_json(examined.results, self.config.name), places))
        console = Console()
        console.width = max(console.width, TABLE_WIDTH)
        console.print(render(examined.results))
        for name, words in notes.items():
            console.print(f"{name}: {words}", highlight=False, soft_wrap=True)
        if self.config.eval.report:
            galleries = self.evaluator.galleries(model, examined)
            curve = {place.alpha: place.results for place in places}
            about = {**facts(), **notes}
            write_report(self.folder, self.config.name, examined.results, galleries, dump(self.config), about, curve)


def check_asked(config: RunConfig) -> None:
    """Before a run, at whose end it would be late to be told of a mistyped task or metric."""
    load_tasks(config.eval.tasks)
    if config.early_stopping:
        task, metric = config.early_stopping.task, config.early_stopping.metric
        known = {kind_of(name) for one in load_tasks([task]) for name in one.metrics} - {"rank"}
        if known and metric not in known:
            raise UserError(f"early_stopping.metric: `{task}` has no `{metric}`; {did_you_mean(metric, known)}")


def beside_before(results: list[Result], path: Path) -> list[Result]:
    """Each number with what it was before the run, where that was asked for."""
    known: dict[tuple[str, str, str], float] = {}
    for found in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
        known |= {(found["dataset"], found["task"], name): value for name, value in found["metrics"].items()}
    return [replace(one, before=known.get((one.dataset, one.task, one.name))) for one in results]


def stopped(standing: EvaluationHistory | None, step: int) -> dict[str, str]:
    """Which weights a run ended with, where evaluations decided it."""
    if standing is None:
        return {}
    words = f"the weights are those of step {standing.best:,}, the best of {standing.count} evaluations"
    return {"early stopping": f"{words} (mean {100 * standing.score:.1f}); the run ended at step {step:,}"}


def _write(path: Path, results: list[Json]) -> None:
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
