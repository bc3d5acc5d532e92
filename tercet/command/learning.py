"""`tercet curate learn`: its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.models import DATA, MODEL
from tercet.command.options import READ_AS, data_of, takes_overrides, takes_plugins
from tercet.command.output import show
from tercet.parser import Parser


def declare(verb: Parser) -> None:
    from tercet.training.flyt.config import LearnConfig

    verb.add_argument("model", metavar="MODEL", help=MODEL)
    takes_overrides(verb, READ_AS)
    verb.add_argument("--data", metavar="D", required=True, help=DATA)
    verb.add_argument("--target", metavar="D", required=True, help="pairs like those that a model should be good at")
    verb.add_argument("--out", type=Path, metavar="SCORES", required=True, help="folder of the score table")
    for name, option in LearnConfig.model_fields.items():
        shown = "" if option.default in (None, ()) else f" (default: {option.default})"
        verb.add_argument(f"--{name.replace('_', '-')}", metavar="X", help=f"{option.description}{shown}")
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of lines for people")
    verb.epilog = "runs in one process (docs/flyt.md)"
    verb.set_defaults(verb=learn)


def learn(arguments: Namespace) -> int:
    from tercet.training.flyt.config import LearnConfig

    given = {name: value for name in LearnConfig.model_fields if (value := getattr(arguments, name)) is not None}
    from tercet.api.learn import learn

    data = data_of(arguments)
    assert data is not None
    found = learn(arguments.model, data, arguments.target, arguments.out, **given)
    show(arguments, found.to_json(), str(found))
    return 0
