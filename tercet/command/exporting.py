"""`tercet export | push`: each verb, with its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.models import MODEL
from tercet.command.options import takes_overrides, takes_plugins
from tercet.command.verbs import print_json
from tercet.parser import Parser


def declare_export(verb: Parser) -> None:
    verb.add_argument("model", metavar="MODEL", help=MODEL.partition(";")[0])
    verb.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    verb.add_argument(
        "--format",
        default="safetensors",
        metavar="FORMAT",
        help="safetensors: tercet's own, for any model (default); open_clip: an image and a text tower; transformers: "
        "CLIPModel, SiglipModel or ClapModel; onnx: a graph for each tower, with precision=fp32, fp16 or int8",
    )
    verb.add_argument(
        "--not-averaged",
        action="store_true",
        help="of a run that kept averages of its weights, write the weights of the last step instead",
    )
    verb.add_argument(
        "--license", default="unknown", metavar="ID", help="of the weights, as a hub names it, for the card (README.md)"
    )
    verb.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="ID",
        help="a data set on a hub, for the card; may be repeated",
    )
    takes_overrides(verb, "options of the format")
    verb.add_argument("--json", action="store_true", help="print JSON instead of lines for people")
    takes_plugins(verb)
    verb.set_defaults(verb=export)


def export(arguments: Namespace) -> int:
    from tercet.configs.layers import PLAIN, parse_override
    from tercet.models.export.config import format_of

    options = PLAIN.stack([parse_override(text) for text in arguments.overrides])
    format_of(arguments.format, options)  # reports a mistake before the model is loaded
    from tercet.api.export import export

    done = export(
        arguments.model,
        arguments.folder,
        arguments.format,
        averaged=not arguments.not_averaged,
        license=arguments.license,
        datasets=arguments.dataset,
        **options,
    )
    print_json(done.to_json()) if arguments.json else print(done)
    return 0


def declare_push(verb: Parser) -> None:
    verb.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that `tercet export` wrote")
    verb.add_argument(
        "repository", metavar="OWNER/NAME", help="the repository on the hub; it is made if it is not there"
    )
    verb.add_argument("--send", action="store_true", help="send the files (default: list them, and send nothing)")
    verb.add_argument("--public", action="store_true", help="make the repository public, or send to one that is")
    verb.add_argument("--json", action="store_true", help="print JSON instead of lines for people")
    verb.epilog = "the token is that of the environment (HF_TOKEN) or of `hf auth login`"
    verb.set_defaults(verb=push)


def push(arguments: Namespace) -> int:
    from tercet.api.push import push

    done = push(arguments.folder, arguments.repository, send=arguments.send, private=not arguments.public)
    print_json(done.to_json()) if arguments.json else print(done)
    return 0
