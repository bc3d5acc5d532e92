"""The interface of a rule of `tercet curate select`. Imports no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeVar

from tercet.configs.base import Config
from tercet.configs.registry import Registry
from tercet.data_pipelines.curate.entering import Entering

Kind = TypeVar("Kind", bound="type[Rule]")


class Rule(Config):
    """Says of each sample that enters its stage whether it stays. Its fields are its options.

    `bare`: the option that a value without a name sets: `where: EXPRESSION`. `reads`: groups of columns that the rule
    reads, besides those that its options name.
    """

    bare: ClassVar[str] = ""
    reads: ClassVar[tuple[str, ...]] = ()

    def decide(self, entering: Entering) -> str:
        """A query for `source`, `id`, `keep`, `probability` and `count` of every sample that enters: see `decided`."""
        raise NotImplementedError

    def after(self, entering: Entering, decision: str, folder: Path) -> None:
        """Once the decision is complete: may add files about it to its folder. `decision`: a query for it."""

    @property
    def label(self) -> str:
        """What tables and reports call the rule."""
        return str(getattr(self, self.bare)) if self.bare else ""


rules: Registry[type[Rule]] = Registry("curation rule")


def curation_rule(name: str) -> Callable[[Kind], Kind]:
    """Registers a rule under the name that files of rules use."""
    return rules.register(name)


def decided(rows: str, keep: str = "keep", probability: str = "keep", count: str = "keep") -> str:
    """The query of a decision, by expressions over the columns of another query. By default, it has no chance in it."""
    values = f"CAST({probability} AS DOUBLE) AS probability, CAST({count} AS INTEGER) AS count"
    judged = rows if keep == "keep" else f"SELECT *, {keep} AS keep FROM ({rows})"
    return f"SELECT source, id, keep, {values} FROM ({judged})"
