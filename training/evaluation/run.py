"""Evaluates a run before it trains, while it trains and at its end, and writes the results and the report."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from rich.console import Console

from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.evaluator import Evaluated, Evaluator, InitialTowers
from tercet.eval.missing import Missing, not_evaluated
from tercet.eval.report.curves import read_lines
from tercet.eval.report.selection import SelectedStep
from tercet.eval.report.write import write_report
from tercet.eval.result import Json, Result, to_json
from tercet.eval.statistics.scale import scale_of
from tercet.eval.tables.table import render
from tercet.main_process import say
from tercet.models.multimodal import Multimodal, build_model
from tercet.provenance import facts
from tercet.training.checkpoints.commit import committed, step_of
from tercet.training.checkpoints.reader import CHECKPOINTS
from tercet.training.config import RunConfig
from tercet.training.evaluation.wise_ft import (
    InterpolatedModel,
    Interpolation,
    best,
    check_start,
    keep_start,
    summary,
    with_curves,
)
from tercet.training.history.config import EarlyStoppingConfig
from tercet.training.history.evaluations import EVALUATIONS, EvaluationHistory, Evaluations
from tercet.training.history.metric_collapse import collapses, in_words
from tercet.training.history.overfitting import overfitting
from tercet.training.hooks.metrics_file import losses, note_event
from tercet.training.pretrained import load_weights, pretrained
from tercet.training.recipe import dump
from tercet.training.selection.examples import EXAMPLES
from tercet.whole_file import write_json

TABLE_WIDTH = 110  # if the output is not a terminal
RESULTS, REPORT, BEFORE = "eval.json", "report.html", "before.json"
METRICS = "metrics.jsonl"
OVERFITTING = "overfitting"  # the note's name
COLLAPSE = "metric_collapse"  # the event's name


class RunEvaluation:
    """Evaluates one run on the data of its tasks, in its folder. Every method is a collective."""

    def __init__(self, config: RunConfig, folder: Path, world: World, sources: OpenedSources | None = None) -> None:
        self.config, self.folder, self.world = config, folder, world
        self.evaluator = Evaluator(config.data, config.eval, world, sources)
        self.evaluations = Evaluations(folder / EVALUATIONS)
        self.named: list[Missing] = []  # what was left out, and said to be

    @property
    def evaluates(self) -> bool:
        """Whether the run holds data out, or its tasks name some."""
        return bool(self.config.data.val) or bool(self.evaluator.datasets)

    @property
    def compares_with_start(self) -> bool:
        """Whether the run compares its last weights with its first ones."""
        return self.evaluates and (self.config.eval.before or bool(self.config.eval.wise_ft))

    def begin(self, model: Multimodal, step: int) -> None:
        """Evaluates or keeps the weights before training, as the recipe asks, for comparison at the end."""
        self._forget_after(-1)  # lines of a run that ended before its first checkpoint
        if self.config.eval.wise_ft and self.world.first:
            keep_start(self.folder, model, self.config)
        if self.config.eval.before:
            results = self.note(model, step)
            if self.world.first:
                write_json(self.folder / BEFORE, results)

    def resume(self, step: int) -> None:
        if self.config.eval.wise_ft and self.evaluates:
            check_start(self.folder)
        self._forget_after(step)

    def _forget_after(self, step: int) -> None:
        if self.world.first:
            self.evaluations.forget_after(step)

    def note(self, model: Multimodal, step: int) -> list[Json]:
        """Evaluates in the middle of a run and adds a line to `evaluations.jsonl`."""
        evaluated = self.evaluator(model)
        self._name(evaluated.missing)
        results = to_json(evaluated.results, self.config.name)
        if self.world.first:
            self._add(step, results)
        return results

    def _name(self, missing: Sequence[Missing]) -> None:
        """Says once which tasks are left out, and why."""
        for line in not_evaluated(self.config.name, [one for one in missing if one not in self.named]):
            say(f"warning: {line}")
        self.named += missing

    def _add(self, step: int, results: list[Json]) -> None:
        """Adds a line, and warns if a metric has collapsed. On the first rank only."""
        self.evaluations.add(step, results)
        found = collapses(self.evaluations.results()) if self.config.eval.warn else []
        if found:
            say(f"step {step:,}: warning: {in_words(found)}. Lower optimizer.lr, or go on from an earlier checkpoint")
            note_event(self.folder / METRICS, step, COLLAPSE, metrics=[one.to_json() for one in found])

    def best(self, step: int | None = None) -> int | None:
        """The step of the best evaluation, if the run keeps its checkpoint: of those whose checkpoint exists, and of
        `step`, which has none yet. All ranks agree."""
        if self.config.best is None:
            return None
        found = None
        if self.world.first:
            saved = {step_of(path) for path in committed(self.folder / CHECKPOINTS)}
            found = self.evaluations.best(self.config.best, saved | ({step} if step is not None else set()))
        return self.world.broadcast(found)

    def history(self, start: int) -> EvaluationHistory | None:
        """The evaluations so far, if the run may stop early. The stage began at step `start`. All ranks agree."""
        if self.config.early_stopping is None:
            return None
        found = self.evaluations.history(self.config.early_stopping, start) if self.world.first else None
        return self.world.broadcast(found)

    def conclude(self, model: Multimodal, stage: RunConfig, step: int) -> None:
        """Evaluates the final weights, and writes eval.json, the tables and the report."""
        if not self.evaluates:
            return
        evaluated = self.evaluator(
            model, self._initial(stage) if self.config.eval.shortcuts and self.world.first else None
        )
        self._name(evaluated.missing)
        self.evaluator.trust(evaluated)
        models = self._interpolated(model, stage) if self.config.eval.wise_ft else []
        history = self.history(0)
        if self.world.first:
            results = beside_before(evaluated.results, self.folder / BEFORE)
            if history is None:  # with early stopping, the run has already evaluated its last step
                self._add(step, to_json(results, self.config.name))
            notes = self._kept() | stopped(history, self.config.early_stopping, step) | self._overfitting(results)
            notes |= summary(models, self.folder, self.config.eval.keep_wise_ft)
            self._write(model, replace(evaluated, results=results), models, notes)

    def _kept(self) -> dict[str, str]:
        """A note about the best checkpoint, if the run keeps it and goes on."""
        best = self.config.checkpoint.best
        history = self.evaluations.history(best, 0) if best else None
        if best is None or history is None:
            return {}
        score = f"mean {best.metric} of {best.task}: {100 * history.score:.1f} %"
        return {
            "best checkpoint": f"step {history.best:,} of {history.count} evaluations ({score}): {self.folder}@best"
        }

    def _collapses(self) -> list[str]:
        """The warnings about metrics that collapsed at any evaluation of the run."""
        history = self.evaluations.results() if self.config.eval.warn else []
        ends = (collapses(history[: count + 1]) for count in range(len(history)))
        return [f"Collapse at step {found[0].step:,}: {in_words(found)}" for found in ends if found]

    def _overfitting(self, results: Sequence[Result]) -> dict[str, str]:
        """A warning if the run overfits, by the metric of early stopping or else the first metric of the first task."""
        stopping = self.config.early_stopping
        if stopping:
            task, metric = stopping.task, stopping.metric
        elif results and scale_of(results[0].metric).better == "higher":
            task, metric = self.config.eval.tasks[0], results[0].metric
        else:
            return {}
        words = overfitting(losses(self.folder / METRICS), self.evaluations.held_out(task, metric), metric)
        advice = "" if stopping else "; set early_stopping to keep the best weights"
        return {OVERFITTING: words + advice} if words else {}

    def _initial(self, stage: RunConfig) -> InitialTowers | None:
        """The model before training, on the first rank. If `init` no longer exists, logs that it uses other towers."""
        if not self.world.first:
            return None
        towers = build_model(stage.model, stage.terms, stage.seed).to(self.world.device)
        kind = "pretrained" if any(one.options.get("pretrained") for one in stage.model.towers.values()) else "random"
        if not stage.init:
            return InitialTowers(towers, kind)
        try:
            found = pretrained(stage.init)
            load_weights(towers, found.weights(), found.source)
        except UserError as error:
            print(f"tercet: `eval.shortcuts` uses {kind} towers, because init cannot be read: {error}", file=sys.stderr)
            return InitialTowers(towers, kind)
        return InitialTowers(towers, "pretrained")

    def _interpolated(self, model: Multimodal, stage: RunConfig) -> list[InterpolatedModel]:
        """Evaluates interpolations of the weights before and after the run. With `keep_wise_ft`, saves the best one."""
        interpolation = Interpolation(stage, self.folder, model.state_dict())
        models = interpolation.evaluated(lambda one: self.evaluator(one.to(self.world.device)).results)
        if self.config.eval.keep_wise_ft and self.world.first:
            interpolation.keep(best(models), self.folder)
        return models

    def _write(
        self, model: Multimodal, evaluated: Evaluated, models: list[InterpolatedModel], notes: Mapping[str, str]
    ) -> None:
        write_json(self.folder / RESULTS, with_curves(to_json(evaluated.results, self.config.name), models))
        console = Console()
        if not console.is_terminal:
            console.width = max(console.width, TABLE_WIDTH)
        console.print(render(evaluated.results))
        for name, words in notes.items():
            console.print(f"{name}: {words}", highlight=False, soft_wrap=True)
        if self.config.eval.report:
            galleries = self.evaluator.galleries(model, evaluated)
            curve = {one.alpha: one.results for one in models}
            about = {**facts(), **notes}
            write_report(
                self.folder, self.config.name, evaluated.results, galleries, dump(self.config), about, curve,
                warnings=[
                    *([f"{OVERFITTING.capitalize()}: {notes[OVERFITTING]}"] if OVERFITTING in notes else []),
                    *self._collapses(),
                    *(f"Left out: {line}" for line in not_evaluated(self.config.name, evaluated.missing)),
                ],
                selected=self._selected(model),
            )  # fmt: skip
            console.print(f"report: {self.folder / REPORT}", highlight=False, soft_wrap=True)

    def _selected(self, model: Multimodal) -> list[SelectedStep]:
        """Examples of what the selections of the run chose and left. A stream cannot be read again by id."""
        found: list[SelectedStep] = []
        for line in read_lines(self.folder / EXAMPLES):
            index = sum(end < line["step"] for end in accumulate(self.config.lengths))
            data = self.config.stage(index).data
            if data.mode != "stream":
                found += self.evaluator.selected(model, [line], data.train.values())
        return found


def beside_before(results: list[Result], path: Path) -> list[Result]:
    """Adds to each result its value before training, if the run evaluated it then (`eval.before`)."""
    known: dict[tuple[str, str, str], float] = {}
    for found in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
        known |= {(found["dataset"], found["task"], name): value for name, value in found["metrics"].items()}
    return [replace(one, before=known.get((one.dataset, one.task, one.name))) for one in results]


def stopped(history: EvaluationHistory | None, stopping: EarlyStoppingConfig | None, step: int) -> dict[str, str]:
    """A note about early stopping: which evaluation was the best, and at which step the run ended."""
    if history is None or stopping is None:
        return {}
    words = f"the weights are those of step {history.best:,}, the best of {history.count} evaluations"
    score = f"mean {stopping.metric} of {stopping.task}: {100 * history.score:.1f} %"
    return {"early stopping": f"{words} ({score}); the run ended at step {step:,}"}
