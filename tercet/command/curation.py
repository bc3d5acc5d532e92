"""`tercet curate …`: each verb, with its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command import learning
from tercet.command.models import DATA
from tercet.command.options import READ_AS, data_of, output_file, takes_overrides, takes_plugins
from tercet.command.output import show
from tercet.command.parser import Verbs, add_verb
from tercet.command.verbs import print_json
from tercet.errors import UserError
from tercet.parser import Parser

FLAGS = {"groups": "--with"}  # where the name of an option is not that of its field
METAVARS = {
    "groups": "A,B,…",
    "by": "MODEL",
    "reference": "MODEL",
    "name": "NAME",
    "source": "NAME",
    "among": "MODALITY",
    "clusters": "K",
    "eps": "E",
    "precision": "fp32|bf16",
}


def add_verbs(within: Verbs) -> None:
    learning.declare(add_verb(within, "learn", "learn scores of pairs from what helps on a target set (FLYT)"))
    _score(add_verb(within, "score", "compute scores of every sample: signals, duplicates, or by a model"))
    _select(add_verb(within, "select", "decide by rules over the scores which samples to train on"))
    _report(add_verb(within, "report", "write a page about a decision: what it drops and why, with examples"))


def _score(verb: Parser) -> None:
    from tercet.data_pipelines.curate.config import ScoreConfig

    verb.add_argument("data", metavar="DATA", help=DATA)
    takes_overrides(verb, READ_AS)
    verb.add_argument("--out", type=Path, metavar="SCORES", required=True, help="folder of the score table")
    for name, option in ScoreConfig.model_fields.items():
        shown = "" if option.default in (None, ()) else f" (default: {option.default})"
        flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
        verb.add_argument(flag, dest=name, metavar=METAVARS.get(name, "N"), help=f"{option.description}{shown}")
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of lines for people")
    verb.epilog = "the same command resumes; under torchrun, processes share the work (docs/score_table.md)"
    verb.set_defaults(verb=score)


def _select(verb: Parser) -> None:
    verb.add_argument("scores", type=Path, metavar="SCORES", help="folder of the score table")
    text = "a YAML file of rules, or rules NAME=VALUE; the word `then` begins the next stage"
    verb.add_argument("rules", nargs="+", metavar="RULE", help=text)
    verb.add_argument("--out", metavar="NAME", required=True, help="name of the decision, a new group of the table")
    verb.add_argument("--workers", type=_count, metavar="N", help="worker processes (default: one for each core)")
    text = "also write new shards with the samples that are kept; most runs only need the list"
    verb.add_argument("--shards", type=Path, metavar="DIR", help=text)
    verb.add_argument("--shard-samples", type=_count, metavar="N", help="samples in a new shard (default: 10,000)")
    text = "the data of the table, for --shards (default: where they were when they were scored)"
    verb.add_argument("--data", metavar="D", help=text)
    text = "what DuckDB may keep in memory; the rest goes to files in SCORES (default: 4GB)"
    verb.add_argument("--memory", default="4GB", metavar="SIZE", help=text)
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of tables for people")
    verb.epilog = "the same command resumes; data.train.NAME.list=SCORES/NAME trains on the decision (docs/curation.md)"
    verb.set_defaults(verb=select)


def select(arguments: Namespace) -> int:
    from tercet.api.curate import select, write_shards

    found = select(arguments.scores, arguments.out, arguments.rules, workers=arguments.workers, memory=arguments.memory)
    told = found.to_json()
    if arguments.shards:
        options = {"data": arguments.data, "samples": arguments.shard_samples or 10_000}
        told["shards"] = write_shards(
            arguments.scores, arguments.out, arguments.shards, workers=arguments.workers, **options
        )
    shards = f"\n\nshards: {arguments.shards}" if arguments.shards else ""
    print_json(told) if arguments.json else print(f"{found}{shards}")  # brackets of SQL are no markup
    return 0


def _report(verb: Parser) -> None:
    verb.add_argument("scores", type=Path, metavar="SCORES", help="folder of the score table")
    verb.add_argument("name", metavar="NAME", help="the decision, as `curate select --out` named it")
    verb.add_argument("--out", type=output_file, metavar="FILE", required=True, help="the HTML page")
    text = "the data of the table, to show pictures and sounds of (default: where they were when they were scored)"
    verb.add_argument("--data", metavar="D", help=text)
    takes_plugins(verb)
    verb.set_defaults(verb=report)


def report(arguments: Namespace) -> int:
    from tercet.api.curate import report

    print(f"report: {report(arguments.scores, arguments.name, arguments.out, data=arguments.data)}")
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UserError(f"`{text}` is not a number; give a whole number of 1 or more")
    return int(text)


def score(arguments: Namespace) -> int:
    from tercet.data_pipelines.curate.config import ScoreConfig

    given = {name: value for name in ScoreConfig.model_fields if (value := getattr(arguments, name)) is not None}
    from tercet.api.curate import score

    data = data_of(arguments)
    assert data is not None
    found = score(data, arguments.out, **given)
    show(arguments, found.to_json(), str(found))
    return 0
