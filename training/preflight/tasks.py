"""Checks the tasks of a run, their metrics and their data before the run trains."""

from collections.abc import Mapping, Sequence

from tercet.data_pipelines.preflight.declared import check_source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError, did_you_mean
from tercet.eval.average import METRIC, averages
from tercet.eval.datasets import Dataset, all_name_data, datasets
from tercet.eval.load_tasks import load_tasks, names_within
from tercet.eval.own_classes import OwnClasses
from tercet.eval.statistics.scale import scale_of
from tercet.eval.task import Task
from tercet.training.checkpoints.config import BestConfig
from tercet.training.config import RunConfig


def check_evaluation(config: RunConfig, sources: OpenedSources) -> None:
    load_tasks(config.eval.tasks)
    found = datasets(config.eval.tasks, config.data.val)
    classes = OwnClasses(config.eval.labels, config.eval.templates)
    measured = {}
    for name, dataset in found.items():
        check_source(dataset.split, sources)
        measured[name] = load_tasks(dataset.classified(classes))
    if found and not config.data.val and not all_name_data(config.eval.tasks):
        raise UserError("some of `eval.tasks` name no data, and the run holds out none for them; set data.val")
    if config.best:
        _check_best(config.best, found, measured)


def _check_best(best: BestConfig, found: Mapping[str, Dataset], measured: Mapping[str, Sequence[Task]]) -> None:
    if not found:
        raise UserError(f"{best.key}: nothing is evaluated; set data.val, or name a task that names its data")
    names = names_within(best.task)
    known = {METRIC} if averages([best.task]) else set()
    for name, dataset in found.items():
        alike = [one for one in measured[name] if one.name in names]
        if best.task in dataset.asked:
            known |= {metric for one in alike for metric in one.metrics if scale_of(metric).better == "higher"}
        elif alike:
            raise UserError(
                f"{best.key}.task: another of `eval.tasks` evaluates `{alike[0].name}` on {name}, and its numbers "
                f"would count; write it as a task file of its own: `extends: {alike[0].name}`"
            )
    if known and best.metric not in known:
        raise UserError(f"{best.key}.metric: `{best.task}` has no `{best.metric}`; {did_you_mean(best.metric, known)}")
