"""Checks a recipe's options of data against the names and headers of the files, without reading samples."""

from collections.abc import Iterable

from tercet.data_pipelines.captions.sidecar import sidecar_files
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.plans.clusters import check_clusters
from tercet.data_pipelines.plans.graph import check_graph
from tercet.data_pipelines.plans.open_list import open_list
from tercet.data_pipelines.sources.open import check_options
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError, did_you_mean
from tercet.modality import modality_of


def check_source(split: SplitConfig, sources: OpenedSources) -> None:
    """Refuses files that are missing and columns that no table has."""
    files = sources.files(split)
    check_options(split, files)
    if split.sidecar:
        sidecar_files(split.sidecar)
    if files.pieces:
        _check_group(split.group, sources.header(split), files.pieces[0].label)


def check_columns(data: DataConfig, fields: Iterable[str], sources: OpenedSources) -> None:
    """Refuses modalities without a column in any table. For shards and folders, only reading them would show that."""
    splits = list(data.train.values())
    if any(sources.files(split).shards for split in splits):
        return
    tables = [sources.header(split) for split in splits]
    if not all(table.columns for table in tables):
        return
    held = {modality for table in tables for modality in table.roles.media}
    if any(table.roles.text or split.captions for table, split in zip(tables, splits, strict=True)):
        held.add("text")
    for modality in map(modality_of, fields):
        if modality not in held:
            table = sources.files(splits[0]).pieces[0].label
            raise UserError(
                f"no column of {table} is known to hold {modality}, which the recipe trains on. "
                f"Name the column with `{modality}` (columns: {', '.join(tables[0].columns)})"
            )


def check_further_files(data: DataConfig, names: Iterable[str], sources: OpenedSources) -> None:
    """Refuses further files that no table lists. For shards, only reading them would show that."""
    splits = list(data.train.values())
    if any(sources.files(split).shards for split in splits):
        return
    for name in names:
        if not any(name in split.files for split in splits):
            table = sources.files(splits[0]).label
            raise UserError(
                f"{table} has no further files named `{name}`, which fields use. Name the column of a table that holds "
                f"them: data.train.files={{{name}: COLUMN}}"
            )


def check_orders(data: DataConfig) -> None:
    """Refuses lists that cannot be read or applied to a part of a source, and graphs and clusters that are missing."""
    for source in data.train.values():
        if source.list:
            open_list(source.list, part=source.part is not None)
        if source.neighbors:
            check_graph(source.neighbors.graph)
        if source.clusters:
            check_clusters(source.clusters.column)


def check_streams(data: DataConfig, sources: OpenedSources) -> None:
    if data.mode == "index":
        return
    for name, source in data.train.items():
        if sources.files(source).pieces:
            raise UserError(
                f"data.train.{name} is not a set of shards. Only shards can be streamed: set data.mode=index"
            )


def _check_group(group: str, manifest: Manifest, where: str) -> None:
    """Refuses a column that does not exist: without groups, duplicates of validation samples would be trained on."""
    known = [column for column in manifest.columns if column not in manifest.roles.taken]
    column = group.removeprefix("json.").partition(".")[0]
    named = group != SplitConfig.model_fields["group"].default and group.startswith("json.")
    if named and manifest.columns and column not in known:
        raise UserError(f"group: {where} has no other column `{column}`; {did_you_mean(column, known)}")
