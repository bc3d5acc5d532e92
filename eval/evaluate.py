"""Evaluates tasks on one embedding table: each result has its interval, the score of chance and shortcut baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tercet.eval.average import averages
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, TextEmbedder
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure, results
from tercet.eval.result import Result
from tercet.eval.task import Task

Shortcuts = Mapping[str, Mapping[str, float]]  # name of the baseline -> R@1 of each direction


def evaluate(
    table: EmbeddingTable,
    embed_text: TextEmbedder,
    tasks: Sequence[str | Task],
    config: EvalConfig,
    dataset: str = "val",
    shortcuts: Shortcuts | None = None,
    groups: Sequence[str | Task] = (),
) -> list[Result]:
    """All results of these tasks on one dataset, in the order of the tasks. `groups`: see `measure`."""
    found = results(measure(table, embed_text, tasks, config, groups), dataset)
    return [_with_shortcuts(result, shortcuts or {}) for result in found]


def measure(
    table: EmbeddingTable,
    embed_text: TextEmbedder,
    tasks: Sequence[str | Task],
    config: EvalConfig,
    groups: Sequence[str | Task] = (),
) -> list[Measure]:
    """The measures of these tasks on one dataset, in the order of the tasks, and then the averages of groups. `groups`:
    those that the tasks are from, if they were expanded already."""
    found = [
        replace(found, task=task.name, title=task.title)
        for task in load_tasks(tasks)
        for found in task.measure(table, embed_text, config)
    ]
    means = (average.of({"": found}) for average in averages(groups or tasks))
    return [*found, *filter(None, means)]


def _with_shortcuts(result: Result, shortcuts: Shortcuts) -> Result:
    if result.metric != "R@1":
        return result
    known = {name: recalls[result.subject] for name, recalls in shortcuts.items() if result.subject in recalls}
    return replace(result, shortcuts=known)
