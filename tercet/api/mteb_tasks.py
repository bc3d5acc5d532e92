"""Evaluates a model on benchmarks and tasks of MTEB: `mteb:MIEB(lite)`, `mteb:Flickr30kT2IRetrieval`.

MTEB downloads the data, runs the task and computes its scores. Here, the main score of each task becomes a `Result`.
MTEB computes no intervals and no chance, so these results have none. Finished tasks are kept in tercet's cache, so the
same command goes on where it stopped.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tercet.api.model import Loadable
from tercet.api.mteb_model import mteb_model, needs_mteb
from tercet.api.results import Results
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.errors import UserError, did_you_mean
from tercet.eval.missing import Missing
from tercet.eval.result import Result
from tercet.eval.task import Task
from tercet.main_process import say

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask
    from mteb.results import ModelResult, TaskResult

    from tercet.api.mteb_encoder import Encoder

PREFIX = "mteb:"


@dataclass(frozen=True)
class Suite:
    """The tasks of a benchmark of MTEB, or one task alone."""

    name: str
    tasks: Sequence["AbsTask"]


def split_off(tasks: str | Sequence[str | Task]) -> tuple[list[Suite], list[str | Task]]:
    """The suites of MTEB among the tasks, and the other tasks."""
    named: list[str | Task] = [tasks] if isinstance(tasks, str) else list(tasks)
    outside = [task for task in named if isinstance(task, str) and task.startswith(PREFIX)]
    return [suite(task.removeprefix(PREFIX)) for task in outside], [task for task in named if task not in outside]


def suite(name: str) -> Suite:
    """The benchmark or task of this name, without `mteb:`."""
    needs_mteb()
    import mteb

    with suppress(KeyError):
        return Suite(name, [mteb.get_task(name)])  # before the benchmarks, whose list takes a second to build
    with suppress(KeyError):
        return Suite(name, list(mteb.get_benchmark(name).tasks))
    known = [one.name for one in mteb.get_benchmarks()]
    raise UserError(f"MTEB has neither a benchmark nor a task `{name}`; {did_you_mean(name, known)}")


def evaluate_suites(model: Loadable, suites: Iterable[Suite], dims: int | None = None) -> Results:
    """Runs every task whose modalities the model has."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("tasks of MTEB run on one process; leave out torchrun")
    encoder = mteb_model(model, dims)
    results: list[Result] = []
    missing: list[Missing] = []
    for one in suites:
        for place, task in enumerate(one.tasks, start=1):
            absent = sorted({*task.metadata.modalities} - {*encoder.model.modalities})
            if absent:
                why = f"the model has no {' and no '.join(absent)} tower"
                missing.append(Missing(one.name, task.metadata.name, why))
                continue
            say(f"{one.name}: {task.metadata.name} ({place} of {len(one.tasks)})")
            found = run(encoder, task)
            results += [result_of(done, task, one.name) for done in found.task_results]
            failed = found.exceptions or ()
            missing += [Missing(one.name, each.task_name, first_line(each.exception)) for each in failed]
    if not results:
        raise UserError(f"no task of MTEB could be evaluated; the first, {missing[0].task}: {missing[0].why}")
    return Results(results, encoder.model.label, missing=missing)


def run(encoder: "Encoder", task: "AbsTask") -> "ModelResult":
    import mteb
    from mteb.cache import ResultCache

    cache = ResultCache(cache_folder() / "mteb")
    return mteb.evaluate(encoder, task, cache=cache, raise_error=False, show_progress_bar=False)


def result_of(done: "TaskResult", task: "AbsTask", suite: str) -> Result:
    """The main score, which is the mean over the task's splits and languages."""
    about, metric = task.metadata, task.metadata.main_score
    return Result(
        done.task_name, metric, float(done.get_score()), None, None, None, items_of(about.descriptive_stats, task),
        task=about.type, title=f"{about.type}, {metric}", dataset=suite,
        metadata={"languages": sorted(done.languages), "revision": done.dataset_revision, "mteb": done.mteb_version},
    )  # fmt: skip


def items_of(statistics: Mapping[str, Any] | None, task: "AbsTask") -> int | None:
    """How many queries or samples MTEB counts in the evaluated splits; None if it publishes no count."""
    counts = [_items((statistics or {}).get(split, {})) for split in task.eval_splits]
    return sum(counts) if all(counts) else None


def _items(split: Mapping[str, Any]) -> int:
    right = split.get("relevant_docs_statistics")  # only retrieval has them, and its samples are queries and documents
    queries = round(right["num_relevant_docs"] / right["average_relevant_docs_per_query"]) if right else None
    return int(split.get("num_queries") or queries or split.get("num_samples", 0))


def first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no reason given")
