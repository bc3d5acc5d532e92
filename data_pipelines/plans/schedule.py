"""The order of each source of a run, from the recipe and the data, and the plan that records what they depend on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tercet.data_pipelines.columns import column_digest
from tercet.data_pipelines.composition import EPISODE
from tercet.data_pipelines.config import DataConfig, SourceConfig
from tercet.data_pipelines.plans.clustered import AllClusters, OneCluster
from tercet.data_pipelines.plans.clusters import ClusterLabels, read_clusters
from tercet.data_pipelines.plans.graph import NeighborGraph, read_graph
from tercet.data_pipelines.plans.listed import Listed
from tercet.data_pipelines.plans.mixture import apportion
from tercet.data_pipelines.plans.neighbors import Neighbors
from tercet.data_pipelines.plans.order import Order, Shuffled, own_seed
from tercet.data_pipelines.plans.plan import Plan, SourceShare
from tercet.data_pipelines.plans.sample_list import SampleList, list_of
from tercet.data_pipelines.plans.source_weights import weighed
from tercet.data_pipelines.source import Source


@dataclass(frozen=True)
class Composition:
    """What a recipe names for the order of a source, read from its files. `per_batch`: its samples in a batch."""

    per_batch: int
    listed: SampleList | None = None
    graph: NeighborGraph | None = None
    labels: ClusterLabels | None = None


@dataclass(frozen=True)
class Schedule:
    """Which sample comes when: the order and the list of each source, by name, and the plan of how they are mixed.

    `per_batch`: how many samples of a batch come from each source that takes part in it.
    """

    orders: dict[str, Order]
    lists: dict[str, SampleList | None]
    plan: Plan
    per_batch: dict[str, int]

    def remarks(self) -> list[str]:
        """A line for each source whose batches are composed of neighbours or clusters."""
        composed = (Neighbors, OneCluster, AllClusters)
        return [f"data.train.{name}: {order}" for name, order in self.orders.items() if isinstance(order, composed)]


def make_schedule(
    data: DataConfig, sources: Mapping[str, Source], batch_size: int, seed: int, graphs: Collection[str] = ()
) -> Schedule:
    """`graphs`: the folders of the neighbour graphs whose captions fields have."""
    lists = {name: list_of(data.train[name], source) for name, source in sources.items()}
    data = weighed(data, {name: _epoch(source, lists[name]) for name, source in sources.items()})
    sizes = per_batch(data, batch_size)
    found = {name: _composition(data.train[name], source, lists[name], sizes[name]) for name, source in sources.items()}
    orders = {name: build_order(data, name, source, found[name], seed) for name, source in sources.items()}
    shares = [
        _share(name, data.train[name], source, found[name], orders[name], graphs) for name, source in sources.items()
    ]
    plan = Plan(seed, data.streams, data.window, data.mix, tuple(shares))
    return Schedule(orders, lists, plan, sizes)


def per_batch(data: DataConfig, batch_size: int) -> dict[str, int]:
    """How many samples of a batch come from each source that takes part in it, by the weights of the sources."""
    if data.mix == "between_batches":
        return dict.fromkeys(data.train, batch_size)
    weights = [source.weight for source in data.train.values()]
    return dict(zip(data.train, apportion(weights, batch_size), strict=True))


def build_order(data: DataConfig, name: str, source: Source, composition: Composition, seed: int) -> Order:
    """The order of one source."""
    config, own = data.train[name], own_seed(name, seed)
    if config.clusters and composition.labels:
        kind = OneCluster if config.clusters.mix == "between_batches" else AllClusters
        return kind(config.clusters, composition.labels, own, composition.per_batch, data.streams)
    seeds = _shuffled(data, source, composition.listed, own)
    if config.neighbors and composition.graph:
        others = _shuffled(data, source, composition.listed, own_seed(f"others {name}", seed))
        graph = composition.graph
        return Neighbors(config.neighbors, graph, seeds, others, own, composition.per_batch, data.streams)
    return seeds


def _shuffled(data: DataConfig, source: Source, listed: SampleList | None, seed: int) -> Order:
    if listed is None:
        return Shuffled(source.counts, seed, data.streams, data.window)
    return Listed(source.counts, listed.times_N, seed, data.streams, data.window)


def _epoch(source: Source, listed: SampleList | None) -> int:
    return listed.epoch if listed else len(source)


def _composition(config: SourceConfig, source: Source, listed: SampleList | None, per_batch: int) -> Composition:
    graph = read_graph(config.neighbors, source, listed) if config.neighbors else None
    clusters = config.clusters if config.clusters and config.clusters.column != EPISODE else None  # none yet
    labels = read_clusters(clusters, source, listed) if clusters else None
    return Composition(per_batch, listed, graph, labels)


def _share(
    name: str, config: SourceConfig, source: Source, found: Composition, order: Order, graphs: Collection[str]
) -> SourceShare:
    return SourceShare(
        name,
        config.weight,
        config.repeat,
        order.samples,
        source.fingerprint,
        found.listed.digest if found.listed else "",
        f"{found.graph.digest} {found.per_batch}" if found.graph else "",
        f"{found.labels.digest} {found.per_batch}" if found.labels else "",
        " ".join(column_digest(Path(graph), source.fingerprint) for graph in sorted(graphs)),
    )
