"""Errors that tell a person what is wrong and how to fix it."""

import errno
import re
from collections.abc import Iterable

LISTED = 12  # known names in a message
MOST_EDITS = 3


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
    reported = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else reported and int(reported[1])
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the known name that it misspells, or else up to twelve known ones."""
    names = sorted(known)
    limit = min(max(len(name), 3) // 3, MOST_EDITS)  # of letters, as in the messages of Rust's compiler
    distances = {other: _edits(name.lower(), other.lower()) for other in names if abs(len(other) - len(name)) <= limit}
    nearest = min(distances, key=distances.__getitem__, default=None)
    if nearest is not None and distances[nearest] <= limit:
        return f"did you mean `{nearest}`?"
    if not names:
        return "there are none"
    return "known: " + ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")


def _edits(one: str, other: str) -> int:
    """How many letters must be inserted, removed, replaced or exchanged with the next one (Damerau–Levenshtein)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        previous, row = row, [i]
        for j, wanted in enumerate(other, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (letter != wanted)))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                row[j] = min(row[j], before[j - 2] + 1)
        before = previous
    return row[-1]
