"""The command `tercet`: 0 on success, 2 and one line on a user's mistake, 1 and a traceback on a failure of ours."""

import os
import sys
from collections.abc import Sequence

from tercet.command.arguments import parse
from tercet.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        code: int = arguments.verb(arguments)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # every rank made the same mistake: one says so
            print(f"tercet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code
