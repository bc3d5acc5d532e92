"""The arguments of verbs that read tables: their columns, as in a recipe."""

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from tercet.errors import UserError

if TYPE_CHECKING:
    from tercet.data_pipelines.config import TableConfig
    from tercet.data_pipelines.manifests.reading import Reading
    from tercet.data_pipelines.manifests.roles import Roles

COLUMNS = "the columns of a table, where the guess is wrong, such as image=file text=[title,alt] group=json.album"


def table_of(arguments: Namespace, source: str | list[str]) -> "TableConfig":
    """The data and their columns, as in a recipe."""
    from tercet.configs.base import build
    from tercet.configs.layers import PLAIN, parse_override
    from tercet.data_pipelines.config import TableConfig

    if not source:
        raise UserError(f"DATA is missing; see `{arguments.parser.prog} --help`")
    options = PLAIN.stack([parse_override(text) for text in arguments.overrides])
    return build(TableConfig, {"source": source, **options}, lambda key: "command line")


def reading_of(arguments: Namespace, source: str | list[str]) -> "Reading":
    from tercet.data_pipelines.config import SplitConfig
    from tercet.data_pipelines.preflight.declared import check_source
    from tercet.data_pipelines.sources.opened import OpenedSources

    split = SplitConfig.model_validate(table_of(arguments, source).model_dump())
    check_source(split, OpenedSources())
    return split.reading


def roles_of(arguments: Namespace) -> "Roles":
    """Shards store the group that a column gives."""
    table = table_of(arguments, str(arguments.source))
    place, _, column = table.group.partition(".")
    if place != "json":
        raise UserError(
            f"`group={table.group}` works in recipes only; to pack a group, name a column, such as group=json.album"
        )
    return replace(table.roles, group=column if "group" in table.model_fields_set else None)
