"""`tercet data rewrite`: its arguments and the few lines that run it."""

from argparse import Namespace

from tercet.command.options import output_file, takes_overrides, takes_plugins
from tercet.command.tables import COLUMNS, reading_of
from tercet.command.verbs import print_json
from tercet.parser import Parser


def declare(verb: Parser) -> None:
    from tercet.data_pipelines.rewrite.config import RewriteConfig

    text = "the base URL of an endpoint with OpenAI's chat completions, a folder of transformers, or `rules`"
    verb.add_argument("by", metavar="MODEL", help=text)
    verb.add_argument("--data", required=True, metavar="DATA", help="shards, a table or a folder")
    text = "JSONL file for data.train.NAME.sidecar (docs/data.md)"
    verb.add_argument("--out", type=output_file, required=True, metavar="FILE", help=text)
    takes_overrides(verb, COLUMNS)
    for name, option in RewriteConfig.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        if option.annotation is bool:
            verb.add_argument(flag, dest=name, action="store_true", default=None, help=option.description)
        else:
            shown = "" if option.default in (None, "", {}) else f" (default: {_listed(option.default)})"
            verb.add_argument(flag, dest=name, metavar="X", help=f"{option.description}{shown}")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a line for people")
    takes_plugins(verb)
    verb.set_defaults(verb=rewrite)


def rewrite(arguments: Namespace) -> int:
    from tercet.configs.base import build
    from tercet.data_pipelines.rewrite.config import RewriteConfig
    from tercet.data_pipelines.rewrite.open_model import check_writer

    given = {name: value for name in RewriteConfig.model_fields if (value := getattr(arguments, name)) is not None}
    if "rules" in given:
        given["rules"] = given["rules"].split(",")
    config = build(RewriteConfig, given, lambda key: "command line")
    check_writer(arguments.by, config)
    from tercet.data_pipelines.rewrite.run import rewrite
    from tercet.data_pipelines.rewrite.show import print_counts, print_verdict

    done = rewrite(arguments.by, arguments.data, reading_of(arguments, arguments.data), config, arguments.out)
    print_json(done.to_json()) if arguments.json else print_counts(done.counts, done.without, arguments.out)
    return 0 if print_verdict(done.counts, config.max_bad) else 1


def _listed(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
