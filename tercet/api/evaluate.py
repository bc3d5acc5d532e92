"""`tercet.evaluate` and `tercet.compare`: models on any data, and evaluation's own test on them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from tercet.api.comparison import Comparison
from tercet.api.data import Data, looked_at, run_of
from tercet.api.model import Loadable, Model, load, name_of
from tercet.api.table import Table
from tercet.data_pipelines.config import DataConfig
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.compare import compare as contrasts
from tercet.eval.compare import same_items
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable
from tercet.eval.evaluate import evaluate as ask
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
) -> Table:
    """Tasks by name, or as YAML files; every number with its interval and chance.

    `tasks`: those of the run, or retrieval, if none are named. `data`: all of it is asked about; without any, what the
    run held out. `labels` are the classes of `zero_shot`: a sample's own is its column or folder `label` or `class`, or
    else the only one that its caption names. `templates` word them, as `a photo of a {class}.`
    """
    asked = Question.of(name_of(model), tasks, labels, templates)
    with embedded(model, looked_at(name_of(model), data), asked.config) as (found, tables):
        results = [
            ask(table, found.towers.embed_text, asked.tasks, asked.config, split) for split, table in tables.items()
        ]
    return Table(list(chain.from_iterable(results)), found.name)


def compare(
    baseline: Loadable, *others: Loadable, data: Data | None = None, tasks: Tasks = (), labels: Labels = ()
) -> Comparison:
    """Each of the others against the baseline on the same items, by name."""
    if not others:
        raise UserError(f"there is nothing to compare {name_of(baseline)} with; name two models or more")
    asked, seen = Question.of(name_of(baseline), tasks, labels), looked_at(name_of(baseline), data)
    with embedded(baseline, seen, asked.config) as (found, tables):
        ours = {split: asked.measures(found, table) for split, table in tables.items()}
    against = {}
    for other in others:
        with embedded(other, seen, asked.config) as (found, theirs):
            for split in theirs:
                same_items(tables[split], theirs[split])
            compared = [contrasts(ours[split], asked.measures(found, table), split) for split, table in theirs.items()]
        against[found.name] = list(chain.from_iterable(compared))
    return Comparison(name_of(baseline), against)


def self_test(model: Loadable, tasks: Tasks = (), data: Data | None = None, labels: Labels = ()) -> list[Check]:
    """Whether evaluation itself holds on these data: `eval/self_test.py` says by what."""
    asked = Question.of(name_of(model), tasks, labels)
    with embedded(model, looked_at(name_of(model), data), asked.config) as (_, tables):
        return list(chain.from_iterable(run_self_test(table, asked.tasks) for table in tables.values()))


@dataclass(frozen=True)
class Question:
    """Tasks, and how they are asked."""

    tasks: list[str | Task]
    config: EvalConfig

    @classmethod
    def of(cls, model: str, tasks: Tasks, labels: Labels, templates: str | Sequence[str] = ()) -> "Question":
        """As the run asks, where the model is one. Labels, where there are any, are what `zero_shot` stands for."""
        run = run_of(model)
        config = run.eval if run else EvalConfig()
        named: list[str | Task] = [tasks] if isinstance(tasks, str) else [*(tasks or config.tasks)]
        return cls(_with_labels(named, labels, templates) if labels else named, config)

    def measures(self, model: Model, table: EmbeddingTable) -> list[Measure]:
        return measure(table, model.towers.embed_text, self.tasks, self.config)


def _with_labels(tasks: list[str | Task], labels: Labels, templates: str | Sequence[str]) -> list[str | Task]:
    if "zero_shot" not in tasks:
        raise UserError("labels are the classes of the task `zero_shot`, which is not asked for; add it to the tasks")
    place = tasks.index("zero_shot")
    return [*tasks[:place], *label_tasks(labels, templates), *tasks[place + 1 :]]


@contextmanager
def embedded(
    model: Loadable, data: DataConfig, config: EvalConfig
) -> Iterator[tuple[Model, dict[str, EmbeddingTable]]]:
    """The model, and the embeddings of each split on all ranks."""
    with joined() as world:
        found = load(model, world.device)
        examiner = Evaluator(data, config, world)
        yield found, {split: examiner.table(found.towers, split) for split in data.val}
