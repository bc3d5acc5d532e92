"""What goes wrong, said so that a person can mend it."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A user's mistake: one line that says what is wrong, where, and how to mend it. Commands exit with 2 on it."""


class RankError(UserError):
    """A mistake that one rank has met and the others have not: that rank speaks, whichever it is."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest known one, or all of them when they are few."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
