"""`tercet curate …`: each verb, with its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.models import DATA, show
from tercet.command.options import READ_AS, data_of, takes_overrides, takes_plugins
from tercet.command.parser import Parser, Verbs, add_verb

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
    _score(add_verb(within, "score", "compute scores of every sample: signals, duplicates, or by a model"))


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


def score(arguments: Namespace) -> int:
    from tercet.data_pipelines.curate.config import ScoreConfig

    given = {name: value for name in ScoreConfig.model_fields if (value := getattr(arguments, name)) is not None}
    from tercet.api.curate import score

    data = data_of(arguments)
    assert data is not None
    found = score(data, arguments.out, **given)
    show(arguments, found.to_json(), str(found))
    return 0
