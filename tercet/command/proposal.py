"""`tercet recipes new`: declared beside the few lines that open the room for it."""

import argparse
import sys
from argparse import Namespace
from pathlib import Path

from tercet.command.options import takes_plugins
from tercet.command.verbs import print_json
from tercet.errors import UserError


def declare(verb: argparse.ArgumentParser) -> None:
    kinds = "a folder or table of files, or shards"
    verb.add_argument("--data", required=True, metavar="DATA", help=f"what to learn from: {kinds}")
    verb.add_argument("--init", metavar="MODEL", help="weights of your own to begin from (default: those of a recipe)")
    verb.add_argument("--out", type=_new_file, metavar="FILE", help="write the recipe here instead of printing it")
    columns = "what is not to be guessed of a table, as image=file text=headline"
    verb.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=columns)
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print all that the proposal stands on as JSON")
    verb.set_defaults(verb=propose)


def propose(arguments: Namespace) -> int:
    """The recipe goes to the file or the output, what there is to say about it elsewhere."""
    from tercet.configs.layers import PLAIN, parse_override
    from tercet.training.proposal.propose import propose
    from tercet.training.proposal.show import print_proposal

    said = PLAIN.stack([parse_override(text) for text in arguments.overrides])
    proposal = propose(arguments.data, said, arguments.init)
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
        raise UserError(f"--out {path} is there already; name another file, or delete it")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {path}: a recipe is a YAML file; name it {path.with_suffix('.yaml')}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    return path
