"""`tercet recipes new`: its arguments and the few lines that run it."""

import argparse
import sys
from argparse import Namespace
from pathlib import Path

from tercet.command.options import takes_plugins
from tercet.command.verbs import print_json
from tercet.errors import UserError


def declare(verb: argparse.ArgumentParser) -> None:
    kinds = "a folder or table of files, or shards"
    verb.add_argument("--data", required=True, metavar="DATA", help=f"the training data: {kinds}")
    verb.add_argument(
        "--init", metavar="MODEL", help="pretrained weights to start from (default: those of a built-in recipe)"
    )
    verb.add_argument("--out", type=_new_file, metavar="FILE", help="write the recipe here instead of printing it")
    columns = "the columns of a table, where the guess is wrong, such as image=file text=headline"
    verb.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=columns)
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print everything that the proposal is based on as JSON")
    verb.set_defaults(verb=propose)


def propose(arguments: Namespace) -> int:
    """Writes the recipe to the file or to stdout, and remarks to stderr."""
    from tercet.configs.layers import PLAIN, parse_override
    from tercet.training.proposal.propose import propose
    from tercet.training.proposal.show import print_proposal

    options = PLAIN.stack([parse_override(text) for text in arguments.overrides])
    proposal = propose(arguments.data, options, arguments.init)
    if arguments.out:
        arguments.out.write_text(proposal.yaml, encoding="utf-8")
    if arguments.json:
        print_json(proposal.to_json() | {"out": arguments.out and str(arguments.out)})
    elif arguments.out:
        print_proposal(proposal, arguments.out)
    else:
        sys.stdout.write(proposal.yaml)
    return 0


def _new_file(text: str) -> Path:
    path = Path(text)
    if path.exists():
        raise UserError(f"--out {path} already exists; name another file, or delete it")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {path}: a recipe is a YAML file; name it {path.with_suffix('.yaml')}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    return path
