"""Tasks asked of one embedding table: every number with its interval, its chance and the shortcuts beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, TextEmbedder
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure, results
from tercet.eval.result import Result
from tercet.eval.task import Task

Shortcuts = Mapping[str, Mapping[str, float]]  # the shortcut's name -> R@1 of each direction


def evaluate(
    table: EmbeddingTable,
    embed_text: TextEmbedder,
    tasks: Sequence[str | Task],
    config: EvalConfig,
    dataset: str = "val",
    shortcuts: Shortcuts | None = None,
) -> list[Result]:
    """All results of these tasks on one data set, in the order of the tasks."""
    found = results(measure(table, embed_text, tasks, config), dataset)
    return [_beside(result, shortcuts or {}) for result in found]


def measure(
    table: EmbeddingTable, embed_text: TextEmbedder, tasks: Sequence[str | Task], config: EvalConfig
) -> list[Measure]:
    """What these tasks, by name or as they are, measure on one data set, in their order."""
    return [
        replace(found, task=task.name, title=task.title)
        for task in load_tasks(tasks)
        for found in task.measure(table, embed_text, config)
    ]


def _beside(result: Result, shortcuts: Shortcuts) -> Result:
    if result.metric != "R@1":
        return result
    known = {name: recalls[result.subject] for name, recalls in shortcuts.items() if result.subject in recalls}
    return replace(result, shortcuts=known)
