"""Says in one sentence per subject whether its first metric is above chance, and above every shortcut."""

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.eval.result import Result
from tercet.eval.tables.formatting import with_unit, words

NOTHING = "nothing shows that the model has learned to do this"
FEW = 6  # subjects that each get a sentence; of more, one names those that are not above chance


@dataclass(frozen=True)
class Verdict:
    """A sentence about a result, and whether the result is above chance, and above every shortcut that is known."""

    words: str
    above_chance: bool
    above_shortcuts: bool = True

    @property
    def sign(self) -> str:
        """How the report marks it."""
        return "failed" if not self.above_chance else "above" if self.above_shortcuts else "level"


def verdicts(first: Sequence[Result]) -> list[Verdict]:
    """`first`: the first metric of each subject of a table. Subjects without a known chance get no sentence."""
    known = [result for result in first if result.above_chance is not None]
    if len(known) <= FEW:
        return [verdict(result) for result in known]
    failed = [result for result in known if not result.above_chance]
    if not failed:
        return [Verdict(f"all {len(known)} results are above chance", above_chance=True)]
    named = ", ".join(f"{result.subject} ({with_unit(result.value, result.metric)})" for result in failed)
    above = f"{len(known) - len(failed)} of {len(known)} results are above chance"
    return [Verdict(f"{above}; not distinguishable from it: {named}", above_chance=len(failed) < len(known))]


def verdict(result: Result) -> Verdict:
    """The sentence of a result with an interval and a chance. A rank is better where it is lower."""
    assert result.guess is not None
    name, bar = result.guess
    number = f"{result.subject} {words(result.metric)} {with_unit(result.value, result.metric)}"
    guess = f"{name} ({with_unit(bar, result.metric)})"
    if result.above_chance:
        return Verdict(f"{number} is above {guess}{_with_shortcuts(result)}", True, _beats_shortcuts(result))
    failed = f"{number} is not distinguishable from {guess}"
    return Verdict(f"{failed}: {NOTHING} (n = {result.n}){_reached(result)}", above_chance=False)


def _with_shortcuts(result: Result) -> str:
    """The best shortcut counts."""
    if not result.shortcuts:
        return ""
    best = _best(result)
    link = "and above" if _beats_shortcuts(result) else "but not above"
    return f", {link} {best} ({with_unit(result.shortcuts[best], result.metric)})"


def _beats_shortcuts(result: Result) -> bool:
    """Whether the whole interval is above the best shortcut, if there is one."""
    if not result.shortcuts:
        return True
    return result.low is not None and result.low > result.shortcuts[_best(result)]


def _reached(result: Result) -> str:
    if not result.shortcuts:
        return ""
    best = _best(result)
    return f"; {best} reaches {with_unit(result.shortcuts[best], result.metric)}"


def _best(result: Result) -> str:
    return max(result.shortcuts, key=lambda name: result.shortcuts[name])
