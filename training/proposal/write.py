"""Writes a recipe as YAML, with the reason for each value as a comment above it."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import yaml

from tercet.configs.yaml_text import Writer
from tercet.training.proposal.choice import Choice

WIDTH = 110


def to_yaml(heading: Sequence[str], choices: Sequence[Choice]) -> str:
    """The first line of `heading` is the recipe's summary. Keys of one section are written together."""
    summary, *paragraphs = heading
    parts = ["\n".join([f"# {summary}", *(line for text in paragraphs for line in ("#", *_comment(text, "")))])]
    for section in dict.fromkeys(map(_section_of, choices)):
        members = [choice for choice in choices if _section_of(choice) == section]
        parts.append("\n".join(_section(section, members)))
    return "\n\n".join(parts) + "\n"


def _section_of(choice: Choice) -> str:
    return choice.key.partition(".")[0]


def _section(section: str, members: list[Choice]) -> Iterator[str]:
    """A single key, or a mapping with its keys indented. Deeper mappings are written on one line, as values."""
    if members[0].key == section:
        yield from _entry(section, members[0], "")
        return
    yield f"{section}:"
    for choice in members:
        yield from _entry(choice.key.partition(".")[2], choice, "  ")


def _entry(key: str, choice: Choice, indent: str) -> list[str]:
    return [*_comment(choice.why, indent), f"{indent}{key}: {inline(choice.value)}"]


def _comment(text: str, indent: str) -> list[str]:
    plain = "".join(letter if letter.isprintable() else "�" for letter in text)  # names of files may hold any character
    return wrap(plain, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False)


def inline(value: Any) -> str:
    """A value on one line of YAML, which reads back as an equal value."""
    flow = isinstance(value, Mapping | Sequence) and not isinstance(value, str)
    text: str = yaml.dump(
        value, Dumper=Flow, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("...\n").removesuffix("\n")


class Flow(Writer):
    """Lists and mappings on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)

    def represent_float(self, data: float) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:float", repr(data).replace("e-0", "e-"))


Flow.add_representer(float, Flow.represent_float)
