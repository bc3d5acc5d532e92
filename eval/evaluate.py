"""Evaluates tasks on one embedding table: each result has its interval and the score of chance."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tercet.eval.average import means
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, TextEmbedder
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
) -> list[Result]:
    """All results of these tasks on one dataset, in the order of the tasks."""
    return results(measure(table, embed_text, tasks, config), dataset)


def measure(
    table: EmbeddingTable, embed_text: TextEmbedder, tasks: Sequence[str | Task], config: EvalConfig
) -> list[Measure]:
    """The measures of these tasks on one dataset, in the order of the tasks, and then the averages of groups."""
    found = [
        replace(found, task=task.name, title=task.title)
        for task in load_tasks(tasks)
        for found in task.measure(table, embed_text, config)
    ]
    return [*found, *means(found, tasks)]


def with_shortcuts(result: Result, shortcuts: Shortcuts) -> Result:
    """The result, with the R@1 of each shortcut baseline in its direction."""
    if result.metric != "R@1":
        return result
    known = {name: recalls[result.subject] for name, recalls in shortcuts.items() if result.subject in recalls}
    return replace(result, shortcuts=known)
