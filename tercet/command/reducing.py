"""`tercet data reduce`: its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.models import DATA, MODEL
from tercet.command.options import takes_plugins
from tercet.command.output import show
from tercet.parser import Parser


def declare(verb: Parser) -> None:
    verb.add_argument("models", metavar="MODEL", nargs="+", help=f"a reference model: {MODEL}")
    verb.add_argument("--data", metavar="D", required=True, help=DATA)
    verb.add_argument("--out", type=Path, metavar="FILE", required=True, help="file of the reduced set")
    verb.add_argument("--queries", type=int, default=1000, metavar="N", help="samples that are queries (default: 1000)")
    text = "wrong candidates of each query, direction and model (default: 50)"
    verb.add_argument("--hard-negatives", type=int, default=50, metavar="K", help=text)
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of text for people")
    verb.epilog = "the task `reduced_retrieval` evaluates on the set (docs/evaluate.md)"
    verb.set_defaults(verb=reduce)


def reduce(arguments: Namespace) -> int:
    from tercet.api.reduce import reduce

    found = reduce(
        arguments.models, arguments.data, arguments.out,
        queries=arguments.queries, hard_negatives=arguments.hard_negatives,
    )  # fmt: skip
    queries, candidates = len(found.queries), len(found.candidates)
    text = f"{arguments.out}: {queries:,} queries, {candidates:,} candidates"
    show(arguments, {"queries": queries, "candidates": candidates}, text)
    return 0
