"""`tercet.evaluate` and `tercet.compare`, on any data, and the self-test of the evaluation."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias, overload

from tercet.api.by_model import ResultsByModel
from tercet.api.comparison import Comparison
from tercet.api.data import Data
from tercet.api.measured import measured
from tercet.api.model import Loadable, Model, check_model, load, name_of
from tercet.api.mteb_tasks import evaluate_suites, split_off
from tercet.api.question import Question, Tasks
from tercet.api.results import Results
from tercet.api.trained_on import TrainedOn, trained_on
from tercet.data_pipelines.config import DataConfig
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.compare import compare as compare_measures
from tercet.eval.compare import corrected, same_items
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.evaluator import Evaluator
from tercet.eval.missing import not_evaluated
from tercet.eval.own_classes import Labels
from tercet.eval.trust.self_test import Check
from tercet.eval.trust.self_test import self_test as run_self_test

Split: TypeAlias = Literal["val", "train"]


@overload
def evaluate(
    model: Loadable,
    tasks: Tasks = (),
    data: Data | None = None,
    labels: Labels = (),
    templates: str | Sequence[str] = (),
    split: Split | None = None,
    dims: int | None = None,
    embeddings: str | os.PathLike[str] | None = None,
) -> Results: ...


@overload
def evaluate(
    model: list[str] | list[Model] | list[Loadable] | tuple[Loadable, ...],
    tasks: Tasks = (),
    data: Data | None = None,
    labels: Labels = (),
    templates: str | Sequence[str] = (),
    split: Split | None = None,
    dims: int | None = None,
    embeddings: str | os.PathLike[str] | None = None,
) -> ResultsByModel: ...


def evaluate(
    model: Loadable | list[str] | list[Model] | list[Loadable] | tuple[Loadable, ...],
    tasks: Tasks = (),
    data: Data | None = None,
    labels: Labels = (),
    templates: str | Sequence[str] = (),
    split: Split | None = None,
    dims: int | None = None,
    embeddings: str | os.PathLike[str] | None = None,
) -> Results | ResultsByModel:
    """Evaluates a model, or several, on tasks; every number comes with its interval and with the score of chance.

    `tasks` are names or YAML files. The default is the run's own tasks, or retrieval. `data` is evaluated as a whole;
    a mapping from names to data gives several datasets. The default is, for each task, the data that its file names, or
    else what the run held out; `split="train"` takes what it was trained on. `labels` are the classes of `zero_shot`: a
    sample's class is its column or folder `label` or `class`, or else the only one that its caption names. `templates`
    are the prompts, such as `a photo of a {class}.` `dims` cuts all vectors to their first dimensions, and normalises
    them anew. `embeddings` is a folder that keeps the vectors of every model and dataset, so that another call does not
    compute them again.

    `mteb:NAME` is a benchmark or task of MTEB, which brings its own data, such as `mteb:MIEB(lite)`.

    Of several models, one is in memory at a time, and tasks and data that are not named are those of the first. What a
    model or a dataset cannot be evaluated on is a warning then, and an error otherwise. So is a run that was trained
    on some of the samples.
    """
    models = [*model] if isinstance(model, list | tuple) else [model]
    if not models:
        raise UserError("there is no model to evaluate; name one or more")
    suites, own = split_off(tasks)
    if suites and (own or labels or templates or split or embeddings or data is not None):
        raise UserError(
            "tasks of MTEB bring their own data and labels; name no other tasks, data, labels or embeddings"
        )
    if suites:
        of_suites = ResultsByModel({name_of(one): evaluate_suites(one, suites, dims) for one in models})
        return of_suites if isinstance(model, list | tuple) else next(iter(of_suites.values()))
    question = Question.of(name_of(models[0]), tasks, labels, templates, data, split)
    for one in models[1:]:
        check_model(one)
    lenient = len(models) > 1 or len(question.datasets) > 1
    by_model: dict[str, Results] = {}
    for one in models:
        found = measured(one, question, dims, Path(embeddings) if embeddings else None, lenient)
        if found.label in by_model:
            raise UserError(f"the model {found.label} is named twice; name each model once")
        known = _trained_on(one, question, found.tables, split)
        by_model[found.label] = Results(found.results, found.label, known, found.hashes, found.missing)
    everything = ResultsByModel(by_model)
    if not any(map(len, by_model.values())):
        raise UserError(everything.warnings[0])
    return everything if isinstance(model, list | tuple) else next(iter(by_model.values()))


def compare(
    baseline: Loadable,
    *others: Loadable,
    data: Data | None = None,
    tasks: Tasks = (),
    labels: Labels = (),
    split: Split | None = None,
) -> Comparison:
    """Compares each of the others with the baseline on the same items. The arguments are those of `evaluate`.

    The p-values and the verdicts are corrected over all rows of the comparison.
    """
    if not others:
        raise UserError(f"there is nothing to compare {name_of(baseline)} with; name two models or more")
    question = Question.of(name_of(baseline), tasks, labels, data=data, split=split)
    for one in others:
        check_model(one)
    lenient = len(question.datasets) > 1
    ours = measured(baseline, question, lenient=lenient)
    missing = not_evaluated(ours.label, ours.missing)
    against = {}
    for other in others:
        theirs = measured(other, question, lenient=lenient)
        missing += not_evaluated(theirs.label, theirs.missing)
        shared = [name for name in ours.measures if name in theirs.measures]
        for name in set(shared) & set(ours.tables):
            same_items(ours.tables[name], theirs.tables[name])
        compared = (compare_measures(ours.measures[name], theirs.measures[name], name) for name in shared)
        against[theirs.label] = list(chain.from_iterable(compared))
    if not any(against.values()):
        raise UserError(missing[0])
    rows = iter(corrected([*chain.from_iterable(against.values())]))
    against = {name: [next(rows) for _ in differences] for name, differences in against.items()}
    own = [
        _trained_on(baseline, question, ours.tables, split),
        *(trained_on(name_of(one), question.data, ours.tables) for one in others),
    ]
    known = [one for by_dataset in own for one in by_dataset.values()]
    return Comparison(ours.label, against, known, missing)


def _trained_on(
    model: Loadable, question: Question, tables: Mapping[str, EmbeddingTable], split: str | None
) -> dict[str, TrainedOn]:
    """How many of the samples the model was trained on: all of its split `train`."""
    name = name_of(model)
    if split == "train":
        counts = {dataset: len(table.samples) for dataset, table in tables.items()}
        return {dataset: TrainedOn(name, dataset, count, count) for dataset, count in counts.items()}
    found = trained_on(name, question.data, tables)
    held_out = [dataset for dataset, one in question.datasets.items() if one.held_out]
    return {dataset: one for dataset, one in found.items() if dataset not in held_out or one.count or not one.unknown}


def self_test(
    model: Loadable,
    tasks: Tasks = (),
    data: Data | None = None,
    labels: Labels = (),
    split: Split | None = None,
    dims: int | None = None,
) -> list[Check]:
    """Tests the evaluation itself on these data with null models; see `eval/trust/self_test.py`."""
    question = Question.of(name_of(model), tasks, labels, data=data, split=split)
    with embedded(model, question.data, question.config, dims) as (_, tables):
        checks = (run_self_test(table, question.on(name)) for name, table in tables.items())
        return list(chain.from_iterable(checks))


@contextmanager
def embedded(
    model: Loadable, data: DataConfig, config: EvalConfig, dims: int | None = None
) -> Iterator[tuple[Model, dict[str, EmbeddingTable]]]:
    """The model, and the embeddings of each split, on all ranks."""
    with joined() as world:
        found = load(model, world.device, dims)
        evaluator = Evaluator(data, config, world)
        yield found, {name: evaluator.table(found.towers, name, split) for name, split in data.val.items()}
