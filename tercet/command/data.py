"""`tercet data …`: the verbs about data, each declared beside the few lines that open the room for it."""

import argparse
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tercet.command.arguments import Parser, Verbs

AddVerb: TypeAlias = "Callable[[Verbs, str, str], Parser]"


def add_verbs(within: "Verbs", add: AddVerb) -> None:
    _generate(add(within, "generate", "write the built-in world of pictures, sounds and captions as shards"))


def _generate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the shards")
    verb.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="knobs, as train=2000 seed=7")
    verb.set_defaults(verb=generate)


def generate(arguments: Namespace) -> int:
    from tercet.configs.base import build
    from tercet.configs.layers import parse_override, stack
    from tercet.data_pipelines.builtin.config import WorldConfig
    from tercet.data_pipelines.builtin.dataset import generate

    knobs = stack([parse_override(text) for text in arguments.overrides])
    out: Path = generate(build(WorldConfig, knobs, lambda key: "command line"), arguments.out)
    print(f"shards: {out}")
    return 0
