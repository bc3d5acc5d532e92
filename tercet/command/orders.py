"""What the files that decide the order of a source hold: lists, neighbour graphs and columns of clusters."""

from collections.abc import Callable, Iterator
from functools import partial

from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.plans.clusters import clusters_summary
from tercet.data_pipelines.plans.graph import graph_summary
from tercet.data_pipelines.plans.open_list import open_list
from tercet.errors import UserError


def order_summaries(source: SourceConfig) -> Iterator[tuple[str, str]]:
    """A line for each such file of a source, by its key in the recipe. Needs no data."""
    if source.list:
        yield "list", _or_error(lambda path: open_list(path).summary(), source.list)
    if source.neighbors:
        yield "neighbors.graph", _or_error(graph_summary, source.neighbors.graph)
    if source.clusters:
        yield "clusters.column", _or_error(partial(clusters_summary, source.clusters.name), source.clusters.column)


def _or_error(summary: Callable[[str], str], path: str) -> str:
    """The error if the file cannot be read: a recipe may be shown on another machine."""
    try:
        return summary(path)
    except UserError as error:
        return str(error)
