"""The command `tercet`: 0 on success, 2 and one line on a user's mistake, 1 and a traceback on a failure of ours."""

import sys
from collections.abc import Sequence

from tercet.command.arguments import parse
from tercet.errors import RankError, UserError
from tercet.machine import settle
from tercet.main_process import is_main_process
from tercet.plugins import load_plugins


def main(argv: Sequence[str] | None = None) -> int:
    settle()
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if "plugin" in arguments:
            load_plugins(arguments.plugin)
        code: int = arguments.verb(arguments)
    except UserError as error:
        if is_main_process() or isinstance(error, RankError):  # else every rank made the same mistake
            print(f"tercet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code
