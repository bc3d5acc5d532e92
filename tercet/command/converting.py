"""`tercet data convert`: its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.options import output_file
from tercet.parser import Parser
from tercet.plural import number_of


def declare(verb: Parser) -> None:
    text = "JSON files of SugarCrepe, SugarCrepe++, ARO or Winoground, all of one test"
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help=text)
    verb.add_argument("--images", type=Path, required=True, metavar="DIR", help="the folder of the pictures")
    verb.add_argument("--out", type=output_file, required=True, metavar="FILE", help="JSONL table for tercet eval")
    verb.set_defaults(verb=convert)


def convert(arguments: Namespace) -> int:
    from tercet.data_pipelines.convert import convert

    done = convert(arguments.files, arguments.images, arguments.out)
    print(f"{arguments.out}: {number_of(done.rows, 'sample')} of {done.test}")
    return 0
