"""`tercet data voices`: its arguments and the few lines that run it."""

from argparse import Namespace
from dataclasses import asdict

from tercet.command.options import output_file, processes, takes_overrides, takes_plugins
from tercet.command.tables import COLUMNS, reading_of
from tercet.command.verbs import print_json
from tercet.parser import Parser
from tercet.plural import number_of
from tercet.system import cores


def declare(verb: Parser) -> None:
    from tercet.data_pipelines.voice.config import VoicesConfig

    verb.add_argument("data", metavar="DATA", help="shards, a table or a folder, with sounds")
    text = "JSONL file for data.train.NAME.sidecar (docs/data.md)"
    verb.add_argument("--out", type=output_file, required=True, metavar="FILE", help=text)
    takes_overrides(verb, COLUMNS)
    for name, option in VoicesConfig.model_fields.items():
        shown = f" (default: {option.default})" if option.default else ""
        verb.add_argument(f"--{name}", metavar="X", help=f"{option.description}{shown}")
    verb.add_argument("--workers", type=processes, metavar="N", help="worker processes (default: one per core)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a line for people")
    takes_plugins(verb)
    verb.set_defaults(verb=voices)


def voices(arguments: Namespace) -> int:
    from tercet.configs.base import build
    from tercet.data_pipelines.voice.config import VoicesConfig
    from tercet.data_pipelines.voice.describe import describe

    given = {name: value for name in VoicesConfig.model_fields if (value := getattr(arguments, name)) is not None}
    config = build(VoicesConfig, given, lambda key: "command line")
    reading = reading_of(arguments, arguments.data)
    done = describe(arguments.data, reading, config, arguments.out, arguments.workers or cores())
    if arguments.json:
        print_json(asdict(done))
    else:
        without = f"; {number_of(done.without, 'sample')} without a sound that can be read" if done.without else ""
        print(f"{arguments.out}: captions of {number_of(done.rows, 'voice')}{without}")
    return 0
