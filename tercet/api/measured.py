"""One model measured on every dataset of an evaluation, each of which it embeds once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from tercet.api.model import Loadable, Model, load
from tercet.api.question import Question
from tercet.distributed import joined
from tercet.eval.average import ALL, means, overall
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.embedding.fingerprint import data_digest, weights_digest
from tercet.eval.evaluate import measure
from tercet.eval.evaluator import Evaluator
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure, results
from tercet.eval.missing import Missing
from tercet.eval.own_classes import ZERO_SHOT, usual_tasks
from tercet.eval.result import Result
from tercet.eval.task import Task, hashes_by_name
from tercet.eval.trust.self_test import trust
from tercet.main_process import say

Hashes = Mapping[tuple[str, str], Mapping[str, str]]  # by dataset and task


@dataclass(frozen=True)
class Measured:
    """The measures of one model by dataset, and averages over all datasets. `tables` hold the samples, without their
    vectors. The model itself is no longer in memory."""

    label: str
    dims: int | None
    measures: Mapping[str, list[Measure]]
    tables: Mapping[str, EmbeddingTable]
    hashes: Hashes
    missing: list[Missing]

    @property
    def results(self) -> list[Result]:
        found = list(chain.from_iterable(results(each, name) for name, each in self.measures.items()))
        if self.dims is None:
            return found
        return [replace(one, metadata={**one.metadata, "dimensions": self.dims}) for one in found]


def measured(
    model: Loadable,
    question: Question,
    dims: int | None = None,
    embeddings: Path | None = None,
    lenient: bool = False,
) -> Measured:
    """`lenient`: what the data or the model do not have is recorded, and the rest is evaluated. A collective."""
    with joined() as world:
        found = load(model, world.device, dims)
        evaluator = Evaluator(question.data, question.config, world, embeddings=embeddings)
        weights = weights_digest(found.towers)
        measures: dict[str, list[Measure]] = {}
        tables: dict[str, EmbeddingTable] = {}
        hashes: dict[tuple[str, str], Mapping[str, str]] = {}
        missing: list[Missing] = []
        for dataset, split in question.data.val.items():
            if lenient:
                say(f"evaluating {found.label} on {dataset}")
            read = {
                "weights": weights,
                "data": data_digest(evaluator.sources.open_first(question.data, split, world), split),
            }
            try:
                table = evaluator.table(found.towers, dataset, split)
            except EvalError as error:
                if not lenient:
                    raise
                missing.append(Missing(dataset, "", str(error)))
                continue
            tasks = load_tasks(question.on(dataset))
            if any(one.name in usual_tasks() for one in tasks) and question.lacks_classes(dataset):
                missing.append(Missing(dataset, ZERO_SHOT, "the data have no classes of their own"))
                tasks = [one for one in tasks if one.name not in usual_tasks()]
            found_here = _measures(found, table, question, tasks, dataset, missing, lenient)
            if found_here:
                measures[dataset], tables[dataset] = found_here, replace(table, vectors={}, items={}, again=None)
            hashes |= {(dataset, name): {**read, **its} for name, its in hashes_by_name(tasks).items()}
    whole = overall(measures, {name: one.asked for name, one in question.datasets.items()})
    everywhere = {ALL: whole} if whole else {}
    return Measured(found.label, found.dims, {**measures, **everywhere}, tables, hashes, missing)


def _measures(
    model: Model,
    table: EmbeddingTable,
    question: Question,
    tasks: Sequence[Task],
    dataset: str,
    missing: list[Missing],
    lenient: bool,
) -> list[Measure]:
    """The measures of a dataset, once the evaluation has tested itself on it."""
    found: list[Measure] = []
    for task in tasks:
        try:
            trust(table, task)
            found += measure(table, model.towers.embed_text, [task], question.config)
        except EvalError as error:
            if not lenient:
                raise
            missing.append(Missing(dataset, task.name, str(error)))
    return [*found, *means(found, question.datasets[dataset].asked, dataset)]
