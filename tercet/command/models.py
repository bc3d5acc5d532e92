"""`tercet eval | compare | embed | search`: each verb, with its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.options import READ_AS, data_of, datasets, takes_overrides, takes_plugins
from tercet.command.output import print_results, show, takes_formats
from tercet.errors import UserError
from tercet.parser import Parser

MODEL = (
    "a run's folder, RUN@best, RUN@STEP, an exported folder, open_clip:NAME/TAG, open_clip:NAME/FILE, a weights file, "
    "laion_clap:FILE, or hf:FOLDER; A+B concatenates the vectors of two"
)
TASK = "by name (default: those of the recipe, or retrieval), a YAML file, or mteb:NAME, a benchmark or task of MTEB"
DATA = "shards, a table, a folder, or a data set on disk"


def declare_eval(verb: Parser) -> None:
    verb.add_argument("model", metavar="MODEL", help=MODEL)
    verb.add_argument("tasks", nargs="*", default=[], metavar="TASK", help=TASK)
    text = "one more model, for a table of several; may be repeated"
    verb.add_argument("--model", action="append", default=[], dest="model_more", metavar="M", help=text)
    _takes_data(verb, "default: the `data` of the task file, or else what the run held out")
    _takes_split(verb)
    verb.add_argument("--labels", metavar="A,B,…", help="the classes of the task zero_shot")
    _takes_dims(verb)
    text = "keep the embeddings in this folder, and use those that it has"
    verb.add_argument("--embeddings", type=Path, metavar="DIR", help=text)
    verb.add_argument("--self-test", action="store_true", help="test the evaluation itself; exit with 1 if it fails")
    takes_plugins(verb)
    takes_formats(verb)
    verb.set_defaults(verb=evaluate, goes_on="tasks")


def evaluate(arguments: Namespace) -> int:
    if arguments.self_test:
        return self_test(arguments)
    from tercet.api.evaluate import evaluate

    asked = (arguments.tasks, datasets(arguments.data), _labels(arguments), (), arguments.split, arguments.dims)
    more: list[str] = arguments.model_more
    if more:
        print_results(arguments, evaluate([arguments.model, *more], *asked, arguments.embeddings))
    else:
        print_results(arguments, evaluate(arguments.model, *asked, arguments.embeddings))
    return 0


def self_test(arguments: Namespace) -> int:
    from tercet.api.evaluate import self_test
    from tercet.eval.trust.self_test_table import render_checks

    if arguments.model_more:
        raise UserError("eval: --self-test takes one model; leave --model out")
    if arguments.format in ("csv", "markdown") or arguments.out:
        raise UserError("eval: --self-test prints a table or JSON; leave --format and --out out, or write --json")
    asked = (arguments.model, arguments.tasks, datasets(arguments.data), _labels(arguments))
    checks = self_test(*asked, arguments.split, arguments.dims)
    holds = all(check.holds for check in checks)
    arguments.json = arguments.format == "json"
    show(arguments, {"holds": holds, "checks": [check.to_json() for check in checks]}, render_checks(checks))
    return 0 if holds else 1


def declare_compare(verb: Parser) -> None:
    verb.add_argument("models", nargs="+", metavar="MODEL", help=f"the first is the baseline: {MODEL}")
    _takes_data(verb, "default: the `data` of the task file, or else what the first held out")
    _takes_split(verb)
    verb.add_argument("--task", action="append", default=[], metavar="TASK", help="by name; may be repeated")
    verb.add_argument("--labels", metavar="A,B,…", help="the classes of the task zero_shot")
    takes_plugins(verb)
    takes_formats(verb)
    verb.set_defaults(verb=compare, goes_on="models")


def compare(arguments: Namespace) -> int:
    from tercet.api.evaluate import compare

    found = compare(
        *arguments.models,
        data=datasets(arguments.data),
        tasks=arguments.task,
        labels=_labels(arguments),
        split=arguments.split,
    )
    print_results(arguments, found)
    return 0


def declare_embed(verb: Parser) -> None:
    verb.add_argument("model", metavar="MODEL", help=f"{MODEL}; with --format features also a recipe")
    takes_overrides(verb, f"{READ_AS}; with --views or --format features, keys of the recipe")
    verb.add_argument("--data", metavar="D", help=f"{DATA} (with a recipe, default: its training data)")
    verb.add_argument(
        "--views",
        metavar="RECIPE",
        help="instead of --data: the training data of a recipe, in each of the augmented views that its data.views "
        "draws, for the memory `stored_teacher`",
    )
    verb.add_argument(
        "--stored",
        choices=("fp16", "fp32"),
        help="with --views: the type of the vectors (default: fp16)",
    )
    verb.add_argument(
        "--classes",
        metavar="FILE",
        help="with --views: texts, one a line; stores the most similar ones to each view instead of vectors, for the "
        "memory `stored_classes`",
    )
    verb.add_argument("--top", type=int, metavar="K", help="with --classes: how many (default: 20)")
    verb.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the embeddings")
    verb.add_argument(
        "--format",
        choices=("safetensors", "parquet", "column", "features"),
        help="column: a vector of each sample, for selection.reference_vectors; features: what the towers return, "
        "before the projection, for model.MODALITY.cached (default: safetensors)",
    )
    _takes_dims(verb)
    _takes_usual(verb)
    verb.epilog = "the same command resumes; under torchrun, processes share the work"
    verb.set_defaults(verb=embed)


def embed(arguments: Namespace) -> int:
    if arguments.views:
        return embed_views(arguments)
    for option in ("stored", "classes", "top"):
        if getattr(arguments, option) is not None:
            raise UserError(f"embed: --{option} goes with --views only; leave it out, or name a recipe: --views RECIPE")
    if arguments.format == "features":
        return embed_features(arguments)
    if arguments.format == "parquet":
        from tercet.api.parquet import embed_parquet as embed
    elif arguments.format == "column":
        from tercet.api.vector_column import embed_column as embed
    else:
        from tercet.api.embed import embed
    data = data_of(arguments)
    if data is None:
        raise UserError("embed: name the data: --data D; or a recipe whose views are embedded: --views RECIPE")
    store = embed(arguments.model, data, arguments.out, arguments.dims)
    show(arguments, {"out": str(arguments.out), **store.facts}, f"embeddings: {arguments.out}: {store.summary}")
    return 0


def embed_views(arguments: Namespace) -> int:
    from dataclasses import asdict

    from tercet.api.view_column import embed_views

    for option in ("data", "dims", "format"):
        if getattr(arguments, option) is not None:
            raise UserError(f"embed: --{option} does not go with --views; leave it out")
    if arguments.top is not None and not (arguments.classes and arguments.top > 0):
        fix = "give 1 or more" if arguments.classes else "it goes with --classes only; leave it out"
        raise UserError(f"embed: --top is {arguments.top}; {fix}")
    found = embed_views(
        arguments.model,
        arguments.views,
        arguments.out,
        arguments.overrides,
        arguments.stored or "fp16",
        arguments.classes,
        arguments.top or 20,
    )
    samples = sum(source.samples for source in found.sources.values())
    show(
        arguments,
        {"out": str(arguments.out), **asdict(found)},
        f"stored views: {arguments.out}: {samples:,} samples × {found.count} views × {found.dim}",
    )
    return 0


def embed_features(arguments: Namespace) -> int:
    from tercet.api.features import embed_features

    if arguments.dims:
        raise UserError("--dims cuts the vectors of the joint space, and features come before it; leave it out")
    found = embed_features(arguments.model, arguments.data, arguments.out, arguments.overrides)
    show(arguments, {"out": str(arguments.out), **found.facts}, f"features: {arguments.out}: {found.summary}")
    return 0


def declare_search(verb: Parser) -> None:
    verb.add_argument("model", metavar="MODEL", help=MODEL)
    verb.add_argument("query", metavar="QUERY", help="words, or the path of a picture or a sound")
    verb.add_argument("--data", metavar="D", required=True, help=f"the data to search: {DATA}")
    verb.add_argument("-k", type=int, default=5, metavar="K", help="how many samples to show (default: 5)")
    verb.add_argument(
        "--among", metavar="MODALITY", help="the modality to search in (default: pictures, else sounds, else captions)"
    )
    _takes_dims(verb)
    _takes_usual(verb)
    verb.set_defaults(verb=search)


def search(arguments: Namespace) -> int:
    from tercet.api.hits import render_hits
    from tercet.api.index import index

    hits = index(arguments.model, arguments.data, arguments.dims).search(arguments.query, arguments.k, arguments.among)
    show(arguments, hits.to_json(), render_hits(hits))
    return 0


def _takes_data(verb: Parser, default: str) -> None:
    text = f"{DATA}, or NAME=D to name it in the table; may be repeated ({default})"
    verb.add_argument("--data", action="append", default=[], metavar="D", help=text)


def _takes_split(verb: Parser) -> None:
    text = "instead of --data: what the run held out (val, the default), or what it was trained on (train)"
    verb.add_argument("--split", choices=("val", "train"), help=text)


def _takes_dims(verb: Parser) -> None:
    text = "cut all vectors to their first N dimensions, for models trained by matryoshka"
    verb.add_argument("--dims", type=int, metavar="N", help=text)


def _takes_usual(verb: Parser) -> None:
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table for people")


def _labels(arguments: Namespace) -> list[str]:
    return [label.strip() for label in arguments.labels.split(",")] if arguments.labels else []
