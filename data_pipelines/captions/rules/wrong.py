"""Captions that are wrong on purpose, made from right ones by rules.

Names of rules: those of one mistake each, and `swap`, `attribute`, `relation` and `shuffle` for all of one family.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tercet.data_pipelines.captions.rules.attribute import replace_attribute
from tercet.data_pipelines.captions.rules.relation import opposite_relation, reverse_relation
from tercet.data_pipelines.captions.rules.sentence import Sentence, normal
from tercet.data_pipelines.captions.rules.shuffle import (
    shuffle_allbut_nouns_and_adj,
    shuffle_nouns_and_adj,
    shuffle_trigrams,
    shuffle_within_trigrams,
)
from tercet.data_pipelines.captions.rules.swap import swap_adjectives, swap_nouns
from tercet.data_pipelines.captions.rules.taggers import TaggerName, read
from tercet.errors import did_you_mean

if TYPE_CHECKING:
    import numpy as np

Rule = Callable[[Sentence, "np.random.Generator"], str | None]

FAMILIES: dict[str, tuple[Rule, ...]] = {
    "swap": (swap_nouns, swap_adjectives),
    "attribute": (replace_attribute,),
    "relation": (opposite_relation, reverse_relation),
    "shuffle": (shuffle_nouns_and_adj, shuffle_allbut_nouns_and_adj, shuffle_within_trigrams, shuffle_trigrams),
}
RULES: dict[str, Rule] = {rule.__name__: rule for family in FAMILIES.values() for rule in family}
USUAL = ("swap", "attribute", "relation")
ROUNDS = 4  # how often each rule is tried for one more caption


@dataclass(frozen=True)
class WrongCaption:
    """The name of the rule, and the caption that it made."""

    kind: str
    text: str


def fault(names: Sequence[str]) -> str:
    """What is wrong with these names of rules; empty if nothing is."""
    for name in names:
        if name not in FAMILIES and name not in RULES:
            return f"has no rule `{name}`; {did_you_mean(name, (*FAMILIES, *RULES))}"
    return "" if names else f"is empty; name a rule, such as {', '.join(USUAL)}"


@dataclass(frozen=True)
class WrongCaptions:
    """Makes wrong captions of a right one, by some rules in turn."""

    rules: tuple[str, ...] = USUAL
    tagger: TaggerName = "words"

    def __call__(
        self, caption: str, right: Collection[str], count: int, dice: "np.random.Generator"
    ) -> list[WrongCaption]:
        """Up to `count` different ones, none of which is among the right captions; none if no rule applies."""
        seen = {normal(one) for one in (caption, *right)}
        made: list[WrongCaption] = []
        for kind, text in self._each(read(caption, self.tagger), dice):
            if normal(text) not in seen:
                seen.add(normal(text))
                made.append(WrongCaption(kind, text))
            if len(made) == count:
                break
        return made

    def _each(self, sentence: Sentence, dice: "np.random.Generator") -> Iterator[tuple[str, str]]:
        """What the rules make, each family in turn, so that a family of more rules is not drawn more often."""
        families = [self._members(name) for name in self.rules]
        for _ in range(ROUNDS):
            for family in dice.permutation(len(families)).tolist():
                for kind in dice.permutation(families[family]).tolist():
                    text = RULES[kind](sentence, dice)
                    if text is not None:
                        yield kind, text
                        break

    def _members(self, name: str) -> list[str]:
        return [rule.__name__ for rule in FAMILIES.get(name, ())] or [name]
