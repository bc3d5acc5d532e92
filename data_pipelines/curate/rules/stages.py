"""The rules of a selection, in stages, from a YAML file or from arguments.

The rules of a stage look at the same samples, and a sample stays if all of them keep it. The samples that stay enter
the next stage. So a stage of conditions may come before one that takes the best of the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from tercet.configs.base import build
from tercet.data_pipelines.curate.rules.rule import Rule, rules
from tercet.errors import UserError

THEN = "then"  # between the stages of arguments
FILES = ("best", "duplicates", "alt_text", "gates", "balance", "soft_cap")
USAGE = (
    "give a file of rules, or rules such as 'where=signals.words >= 3' 'top={by: similarity.image_text, fraction: 0.3}'"
)


@dataclass(frozen=True)
class NamedRule:
    name: str
    rule: Rule

    @property
    def label(self) -> str:
        """What a table, a report and the column `why` call it."""
        return f"{self.name}: {self.rule.label}" if self.rule.label else self.name

    def to_json(self) -> dict[str, Any]:
        return {self.name: self.rule.model_dump(mode="json")}


@dataclass(frozen=True)
class SelectionStage:
    name: str
    rules: tuple[NamedRule, ...]


def stages_of(words: Sequence[str]) -> tuple[SelectionStage, ...]:
    """From a file, or from arguments."""
    if not words:
        raise UserError(f"no rules are given; {USAGE}")
    if len(words) == 1 and Path(words[0]).suffix in (".yaml", ".yml"):
        return read_stages(Path(words[0]))
    stages: list[list[NamedRule]] = [[]]
    for word in words:
        name, _, value = word.partition("=")
        if word == THEN:
            stages.append([])
        else:
            bare = value.lstrip()[:1] not in ("{", "[")
            stages[-1].append(_rule(name.strip(), value if bare else _yaml(value, name), "command line"))
    return _checked((f"stage {number}", found) for number, found in enumerate(stages, start=1))


def read_stages(path: Path) -> tuple[SelectionStage, ...]:
    """A list of rules, or lists of rules by the names of stages."""
    try:
        found = _yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(f"the rules {path} cannot be read ({error.strerror}); {USAGE}") from None
    return stages_in(found, str(path))


def stages_in(found: Any, origin: str) -> tuple[SelectionStage, ...]:
    named = found if isinstance(found, Mapping) else {"stage 1": found}
    if not named or not all(isinstance(each, list) for each in named.values()):
        raise UserError(f"{origin}: give a list of rules, or a list of rules for the name of each stage")
    return _checked((str(name), [_one(rule, origin) for rule in each]) for name, each in named.items())


def _one(found: Any, origin: str) -> NamedRule:
    """A name, or a name with its options or its main value."""
    if isinstance(found, str):
        return _rule(found, {}, origin)
    if not isinstance(found, Mapping) or len(found) != 1:
        raise UserError(
            f"{origin}: `{found}` is not a rule; write `- where: EXPRESSION` or `- top: {{by: …, fraction: …}}`"
        )
    ((name, value),) = found.items()
    return _rule(str(name), value, origin)


def _rule(name: str, value: Any, origin: str) -> NamedRule:
    for file in FILES:
        import_module(f"tercet.data_pipelines.curate.rules.{file}")
    kind = rules.get(name)
    if value in (None, ""):
        value = {}
    if not isinstance(value, Mapping):
        if not kind.bare:
            raise UserError(
                f"{origin}: the rule `{name}` needs options, such as `{name}: {{{next(iter(kind.model_fields))}: …}}`"
            )
        value = {kind.bare: value}
    return NamedRule(name, build(kind, value, lambda key: f"{origin}, rule `{name}`"))


def _yaml(text: str, origin: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{origin}: not YAML ({' '.join(str(error).split())})") from None


def _checked(stages: Iterable[tuple[str, list[NamedRule]]]) -> tuple[SelectionStage, ...]:
    found = tuple(SelectionStage(name, tuple(each)) for name, each in stages)
    for stage in found:
        if not stage.rules:
            raise UserError(f"`{stage.name}` has no rules; {USAGE}")
    return found
