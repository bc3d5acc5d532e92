"""`tercet.evaluate` and `tercet.compare`, on any data, and the self-test of the evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, TypeAlias

from tercet.api.comparison import Comparison
from tercet.api.data import Data, looked_at, run_of
from tercet.api.model import Loadable, Model, load, name_of
from tercet.api.results import Results
from tercet.api.trained_on import TrainedOn, trained_on
from tercet.data_pipelines.config import DataConfig
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.compare import compare as compare_measures
from tercet.eval.compare import corrected, same_items
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable
from tercet.eval.evaluate import evaluate as evaluate_table
from tercet.eval.evaluate import measure
from tercet.eval.evaluator import Evaluator
from tercet.eval.measure import Measure
from tercet.eval.self_test import Check
from tercet.eval.self_test import self_test as run_self_test
from tercet.eval.task import Task
from tercet.eval.zero_shot import label_tasks

Tasks: TypeAlias = str | Sequence[str | Task]
Labels: TypeAlias = Sequence[str] | Mapping[str, str]


def evaluate(
    model: Loadable,
    tasks: Tasks = (),
    data: Data | None = None,
    labels: Labels = (),
    templates: str | Sequence[str] = (),
    split: Literal["val", "train"] | None = None,
    dims: int | None = None,
) -> Results:
    """Evaluates a model on tasks; every number comes with its interval and with the score of chance.

    `tasks` are names or YAML files. The default is the run's own tasks, or retrieval. `data` is evaluated as a whole.
    The default is what the run held out; `split="train"` takes what it was trained on. `labels` are the classes of
    `zero_shot`: a sample's class is its column or folder `label` or `class`, or else the only one that its caption
    names. `templates` are the prompts, such as `a photo of a {class}.` `dims` cuts all vectors to their first
    dimensions, and normalises them anew.

    The table warns if the model is a run that was trained on some of the samples.
    """
    question, seen = Question.of(name_of(model), tasks, labels, templates), looked_at(name_of(model), data, split)
    with embedded(model, seen, question.config, dims) as (found, tables):
        by_dataset = [
            evaluate_table(table, found.towers.embed_text, question.tasks, question.config, name)
            for name, table in tables.items()
        ]
    results = list(chain.from_iterable(by_dataset))
    if found.dims is not None:
        results = [replace(one, metadata={**one.metadata, "dimensions": found.dims}) for one in results]
    return Results(results, found.label, _trained_on(model, seen, tables, data, split))


def compare(
    baseline: Loadable,
    *others: Loadable,
    data: Data | None = None,
    tasks: Tasks = (),
    labels: Labels = (),
    split: Literal["val", "train"] | None = None,
) -> Comparison:
    """Compares each of the others with the baseline on the same items. The arguments are those of `evaluate`.

    The p-values and the verdicts are corrected over all rows of the comparison.
    """
    if not others:
        raise UserError(f"there is nothing to compare {name_of(baseline)} with; name two models or more")
    question, seen = Question.of(name_of(baseline), tasks, labels), looked_at(name_of(baseline), data, split)
    with embedded(baseline, seen, question.config) as (first, tables):
        ours = {name: question.measures(first, table) for name, table in tables.items()}
    against = {}
    for other in others:
        with embedded(other, seen, question.config) as (found, other_tables):
            for name, table in other_tables.items():
                same_items(tables[name], table)
            measured = {name: question.measures(found, table) for name, table in other_tables.items()}
        compared = (compare_measures(ours[name], measures, name) for name, measures in measured.items())
        against[found.label] = list(chain.from_iterable(compared))
    rows = iter(corrected([*chain.from_iterable(against.values())]))
    against = {name: [next(rows) for _ in differences] for name, differences in against.items()}
    own = [
        _trained_on(baseline, seen, tables, data, split),
        *(trained_on(name_of(one), seen, tables) for one in others),
    ]
    return Comparison(first.label, against, [one for by_dataset in own for one in by_dataset.values()])


def _trained_on(
    model: Loadable, seen: DataConfig, tables: Mapping[str, EmbeddingTable], data: Data | None, split: str | None
) -> dict[str, TrainedOn]:
    """How many of the samples the model was trained on: all of its split `train`."""
    name = name_of(model)
    if split == "train":
        counts = {dataset: len(table.samples) for dataset, table in tables.items()}
        return {dataset: TrainedOn(name, dataset, count, count) for dataset, count in counts.items()}
    found = trained_on(name, seen, tables)
    return {dataset: one for dataset, one in found.items() if data is not None or one.count or not one.unknown}


def self_test(
    model: Loadable,
    tasks: Tasks = (),
    data: Data | None = None,
    labels: Labels = (),
    split: Literal["val", "train"] | None = None,
    dims: int | None = None,
) -> list[Check]:
    """Tests the evaluation itself on these data with null models; see `eval/self_test.py`."""
    question = Question.of(name_of(model), tasks, labels)
    with embedded(model, looked_at(name_of(model), data, split), question.config, dims) as (_, tables):
        return list(chain.from_iterable(run_self_test(table, question.tasks) for table in tables.values()))


@dataclass(frozen=True)
class Question:
    """The tasks of an evaluation, and its settings."""

    tasks: list[str | Task]
    config: EvalConfig

    @classmethod
    def of(cls, model: str, tasks: Tasks, labels: Labels, templates: str | Sequence[str] = ()) -> "Question":
        """Takes what is not named from the model's run, if it is one. `labels` are the classes of `zero_shot`."""
        run = run_of(model)
        config = run.eval if run else EvalConfig()
        named: list[str | Task] = [tasks] if isinstance(tasks, str) else [*(tasks or config.tasks)]
        return cls(_with_labels(named, labels, templates) if labels else named, config)

    def measures(self, model: Model, table: EmbeddingTable) -> list[Measure]:
        return measure(table, model.towers.embed_text, self.tasks, self.config)


def _with_labels(tasks: list[str | Task], labels: Labels, templates: str | Sequence[str]) -> list[str | Task]:
    if "zero_shot" not in tasks:
        raise UserError("labels are the classes of the task `zero_shot`, which is not among the tasks; add it")
    place = tasks.index("zero_shot")
    return [*tasks[:place], *label_tasks(labels, templates), *tasks[place + 1 :]]


@contextmanager
def embedded(
    model: Loadable, data: DataConfig, config: EvalConfig, dims: int | None = None
) -> Iterator[tuple[Model, dict[str, EmbeddingTable]]]:
    """The model, and the embeddings of each split, on all ranks."""
    with joined() as world:
        found = load(model, world.device, dims)
        evaluator = Evaluator(data, config, world)
        yield found, {split: evaluator.table(found.towers, split) for split in data.val}
