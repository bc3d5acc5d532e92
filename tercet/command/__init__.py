"""The command `tercet`. Its exit codes:

0    success
1    a failure of tercet itself, with a traceback, or a check that did not pass
2    a mistake of the user, or a full disk, in one line
130  stopped by SIGINT (Ctrl-C)
141  whoever reads the output closed it, as `head` does
143  stopped by SIGTERM

A training run that one of these signals stops is saved first.
"""

import os
import select
import sys
from collections.abc import Sequence

from tercet.command.arguments import parse
from tercet.errors import RankError, RunStopped, UserError, is_full_disk
from tercet.machine import settle
from tercet.main_process import is_main_process, say
from tercet.plugins import load_plugins

STDOUT = 1


def main(argv: Sequence[str] | None = None) -> int:
    settle()
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if "plugin" in arguments:
            load_plugins(arguments.plugin)
        code: int = arguments.verb(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if _stdout_is_open():
            raise
        return 141
    except UserError as error:
        if is_main_process() or isinstance(error, RankError):  # every rank makes the same mistake, and one prints it
            print(f"tercet: {error}", file=sys.stderr)
        return 2
    except RunStopped as stopped:
        say(str(stopped))
        return 128 + stopped.signal
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_full_disk(error):
            raise
        print(f"tercet: cannot write: {error}. Free space, and run the same command again", file=sys.stderr)
        return 2
    return code


def _stdout_is_open() -> bool:
    """If it is not, what is left to print goes nowhere, so that Python does not fail at its end."""
    watched = select.poll()
    watched.register(STDOUT, 0)
    if not any(event & select.POLLERR for _, event in watched.poll(0)):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return False
