"""Errors that tell a person what is wrong and how to fix it."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A user's mistake, in one line: what is wrong, where, and how to fix it. Commands exit with 2."""


class RankError(UserError):
    """A mistake that only one rank has met. That rank prints it, whichever it is."""


class RunStopped(KeyboardInterrupt):
    """A signal stopped a run, which was saved first. Commands exit with 128 + the number of the signal."""

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped at step {step:,}, saved; the same command resumes")
        self.signal = signal


def is_full_disk(error: Exception) -> bool:
    """Whether a disk, a quota or a limit on files is exhausted. safetensors tells it only in the text of its error."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else told and int(told[1])
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known name, or else up to twelve known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
