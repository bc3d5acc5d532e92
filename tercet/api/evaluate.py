"""`tercet.evaluate` and `tercet.compare`: models on any data, and evaluation's own test on it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from tercet.api.data import Data, whole
from tercet.api.model import Loadable, Model, load
from tercet.api.table import Table
from tercet.configs.recipe import load_recipe
from tercet.data_pipelines.config import DataConfig
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.compare import Contrast, same_items
from tercet.eval.compare import compare as contrasts
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable
from tercet.eval.evaluate import evaluate as ask
from tercet.eval.evaluate import measure
from tercet.eval.examine import Examiner
from tercet.eval.labels import label_tasks
from tercet.eval.self_test import Check
from tercet.eval.self_test import self_test as examine_stand_ins
from tercet.eval.task import Task
from tercet.training.saved import CONFIG

Tasks = str | Sequence[str | Task]
Labels = Sequence[str] | Mapping[str, str]


def evaluate(
    model: Loadable,
    tasks: Tasks = "retrieval",
    data: Data | None = None,
    labels: Labels = (),
    templates: Sequence[str] = (),
    candidates: int | None = None,
) -> Table:
    """Tasks by name, or as YAML files; every number with its interval and chance.

    `data`: all of it is asked about; without any, what a run held out. `labels` are the classes of `zero_shot`: a
    sample's own is its column or folder `label` or `class`, or else the only one that its caption names. They are
    worded by `templates`, as `a photo of a {class}.`
    """
    asked, config = named_tasks(tasks, labels, templates), EvalConfig(candidates=candidates)
    with _examined(model, data, config) as (found, tables):
        results = [ask(table, found.towers.embed_text, asked, config, split) for split, table in tables.items()]
    return Table(list(chain.from_iterable(results)), found.name)


def compare(
    baseline: Loadable, *others: Loadable, data: Data | None = None, tasks: Tasks = "retrieval", labels: Labels = ()
) -> dict[str, list[Contrast]]:
    """Each of the others against the baseline on the same items, by name."""
    asked, config = named_tasks(tasks, labels), EvalConfig()
    seen = data if data is not None else data_of(baseline)
    with _examined(baseline, seen, config) as (first, tables):
        ours = {split: measure(table, first.towers.embed_text, asked, config) for split, table in tables.items()}
    against: dict[str, list[Contrast]] = {}
    for other in others:
        with _examined(other, seen, config) as (model, theirs):
            against[model.name] = []
            for split, table in theirs.items():
                same_items(tables[split], table)
                measured = measure(table, model.towers.embed_text, asked, config)
                against[model.name] += contrasts(ours[split], measured, split)
    return against


def self_test(
    model: Loadable, tasks: Tasks = "retrieval", data: Data | None = None, labels: Labels = ()
) -> list[Check]:
    """Whether evaluation itself holds on these data: `eval/self_test.py` says by what."""
    with _examined(model, data, EvalConfig()) as (_, tables):
        return list(
            chain.from_iterable(examine_stand_ins(table, named_tasks(tasks, labels)) for table in tables.values())
        )


def named_tasks(tasks: Tasks, labels: Labels = (), templates: Sequence[str] = ()) -> list[str | Task]:
    """The tasks, where `zero_shot` stands for the labels that are given."""
    asked: list[str | Task] = [tasks] if isinstance(tasks, str) else list(tasks)
    if not labels:
        return asked
    if "zero_shot" not in asked:
        raise UserError("labels are the classes of the task `zero_shot`, which is not asked for; add it to the tasks")
    place = asked.index("zero_shot")
    return [*asked[:place], *label_tasks(labels, templates), *asked[place + 1 :]]


def data_of(model: Loadable) -> DataConfig:
    """What a run held out."""
    name = model.name if isinstance(model, Model) else str(model)
    if not (Path(name) / CONFIG).is_file():
        raise UserError(f"{name} is no run, which would know what it held out; say what to evaluate on: data=…")
    return load_recipe(str(Path(name) / CONFIG)).data


@contextmanager
def _examined(
    model: Loadable, data: Data | None, config: EvalConfig
) -> Iterator[tuple[Model, dict[str, EmbeddingTable]]]:
    """The model, and the embeddings of each split on all ranks."""
    given = data_of(model) if data is None else whole(data)
    with joined() as world:
        found = load(model, world.device)
        examiner = Examiner(given, config, world)
        yield found, {split: examiner.table(found.towers, split) for split in given.val}
