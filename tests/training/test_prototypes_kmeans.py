"""K-means equals loops over rows and centroids, on one process and on two, whatever rows each of them holds."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.seeding import uniforms
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.prototypes import kmeans as module
from tercet.training.prototypes.kmeans import Clusters, KMeans, kmeans

ROWS, DIM = 90, 4
OPTIONS = (
    KMeans(7, seed=3),
    KMeans(7, start="random", restarts=3),
    KMeans(5, spherical=True, iterations=3),
    KMeans(40, start="random", iterations=2, seed=1),
)
CUTS = (0, 31, ROWS)  # rows of the first of two ranks


def data() -> Tensor:
    """Rows around four far points, and one row nine times."""
    random = torch.Generator().manual_seed(0)
    center_nd = 3 * torch.randn(4, DIM, generator=random)[torch.arange(ROWS) % 4]
    feature_nd = center_nd + torch.randn(ROWS, DIM, generator=random)
    feature_nd[:9] = feature_nd[0]
    return feature_nd


def ids() -> Tensor:
    return 1000 - 7 * torch.arange(ROWS)


def draws(purpose: str, seed: int, number: int) -> list[float]:
    found: list[float] = uniforms(purpose, seed, number, ids().numpy(), 1)[:, 0].tolist()
    return found


def squared(one: list[float], other: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def unit(row: list[float]) -> list[float]:
    length = squared(row, [0.0] * len(row)) ** 0.5
    return [value / length for value in row]


def first_centroids(rows: list[list[float]], options: KMeans, restart: int) -> list[list[float]]:
    if options.start == "random":
        draw = draws("k-means rows", options.seed, restart)
        return [rows[place] for place in sorted(range(ROWS), key=draw.__getitem__)[: options.clusters]]
    draw = draws("k-means first row", options.seed, restart)
    found = [rows[draw.index(min(draw))]]
    while len(found) < options.clusters:
        draw = draws("k-means++", options.seed, restart * options.clusters + len(found))
        rate = [min(squared(row, one) for one in found) for row in rows]
        race = [-torch.tensor(1 - u).double().log().item() / max(r, 1e-30) for u, r in zip(draw, rate, strict=True)]
        found.append(rows[race.index(min(race))])
    return found


def naive(rows: list[list[float]], options: KMeans, restart: int) -> tuple[float, list[int], list[list[float]]]:
    """The inertia, the labels and the centroids, for data where no cluster becomes empty."""
    rows = [unit(row) for row in rows] if options.spherical else rows
    centroids = first_centroids(rows, options, restart)

    def nearest(row: list[float]) -> int:
        distances = [squared(row, one) for one in centroids]
        return distances.index(min(distances))

    labels = [nearest(row) for row in rows]
    for _ in range(options.iterations):
        for cluster in range(options.clusters):
            mine = [row for row, label in zip(rows, labels, strict=True) if label == cluster]
            assert mine
            centroids[cluster] = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
            if options.spherical:
                centroids[cluster] = unit(centroids[cluster])
        labels = [nearest(row) for row in rows]
    return sum(squared(row, centroids[label]) for row, label in zip(rows, labels, strict=True)), labels, centroids


def of_rank(world: World) -> list[Clusters]:
    found = []
    for cut in CUTS:
        own = slice(0, cut) if world.rank == 0 else slice(cut, ROWS)
        found += [kmeans(data()[own], ids()[own], options, world) for options in OPTIONS]
    return found


@pytest.mark.parametrize("index", [0, 1, 2])
def test_equals_loops(index: int) -> None:
    options = OPTIONS[index]
    runs = [naive(data().tolist(), options, restart) for restart in range(options.restarts)]
    inertia, labels, centroids = min(runs)
    found = kmeans(data(), ids(), options, World())
    assert found.label_n.tolist() == labels
    assert found.inertia == pytest.approx(inertia, rel=1e-5)
    torch.testing.assert_close(found.centroid_Kd, torch.tensor(centroids), rtol=1e-5, atol=1e-5)
    assert found.count_K.tolist() == [labels.count(cluster) for cluster in range(options.clusters)]


def test_two_processes_equal_one_whatever_rows_they_hold() -> None:
    one = [kmeans(data(), ids(), options, World()) for options in OPTIONS]
    first, second = on_ranks(of_rank, 2)
    for index, (mine, other) in enumerate(zip(first, second, strict=True)):
        expected = one[index % len(OPTIONS)]
        assert torch.equal(torch.cat([mine.label_n, other.label_n]), expected.label_n)
        for rank in (mine, other):
            torch.testing.assert_close(rank.centroid_Kd, expected.centroid_Kd, rtol=1e-5, atol=1e-5)
            assert torch.equal(rank.count_K, expected.count_K)
            assert rank.inertia == pytest.approx(expected.inertia, rel=1e-6)
        assert torch.equal(mine.centroid_Kd, other.centroid_Kd)


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(5))
    found = kmeans(data()[order], ids()[order], OPTIONS[0], World())
    assert torch.equal(found.label_n, kmeans(data(), ids(), OPTIONS[0], World()).label_n[order])


def test_distances_in_small_tiles_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = kmeans(data(), ids(), OPTIONS[0], World())
    monkeypatch.setattr(module, "ENTRIES", 20)
    found = kmeans(data(), ids(), OPTIONS[0], World())
    assert torch.equal(found.label_n, expected.label_n)
    torch.testing.assert_close(found.centroid_Kd, expected.centroid_Kd)


@pytest.mark.parametrize("spherical", [False, True])
def test_separated_clusters_are_found(spherical: bool) -> None:
    random = torch.Generator().manual_seed(2)
    true_n = torch.arange(200) % 8
    center_nd = torch.eye(8)[true_n]
    options = KMeans(8, spherical=spherical, seed=6)
    found = kmeans(center_nd + 0.05 * torch.randn(200, 8, generator=random), torch.arange(200), options, World())
    assert len({*zip(true_n.tolist(), found.label_n.tolist(), strict=True)}) == 8
    assert found.count_K.tolist() == [25] * 8


def test_starts_of_k_means_plus_plus_are_drawn_by_squared_distance() -> None:
    """From the first row at 0, the others are at 1, 2 and 3: 1, 4 and 9 of 14. Within four standard deviations."""
    row_nd = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    drawn: Counter[float] = Counter()
    for seed in range(4000):
        first, second = module._start(row_nd, torch.arange(4), KMeans(2, seed=seed), 0, World()).flatten().tolist()
        drawn.update([second] if first == 0 else [])
    total = sum(drawn.values())
    assert abs(total - 1000) < 4 * 27.4
    for place, chance in ((1.0, 1 / 14), (2.0, 4 / 14), (3.0, 9 / 14)):
        assert abs(drawn[place] - total * chance) < 4 * (total * chance * (1 - chance)) ** 0.5
    assert not drawn[0.0], "the first row was drawn again"


def test_an_empty_cluster_divides_the_largest_one() -> None:
    """Both first centroids are the same row of one of two groups, so the second one begins without rows."""
    row_nd = torch.cat([torch.zeros(5, 2), torch.tensor([[4.0, 0.0], [4.0, 0.2], [4.2, 0.0]])])
    draw = uniforms("k-means rows", 0, 0, range(8), 1)[:, 0].tolist()
    id_n = torch.tensor(sorted(range(8), key=draw.__getitem__))
    options = KMeans(2, start="random", iterations=0)
    assert kmeans(row_nd, id_n, options, World()).count_K.tolist() == [8, 0]
    found = kmeans(row_nd, id_n, replace(options, iterations=5), World())
    assert sorted(found.count_K.tolist()) == [3, 5]
    assert found.inertia == pytest.approx(0.16 / 3, rel=1e-3)


def test_clusters_beyond_the_different_rows_stay_empty() -> None:
    row_nd = torch.eye(3).repeat(4, 1)
    for start in ("k-means++", "random"):
        found = kmeans(row_nd, torch.arange(12), KMeans(6, start=start), World())  # type: ignore[arg-type]
        assert sorted(found.count_K.tolist()) == [0, 0, 0, 4, 4, 4]
        assert found.inertia < 1e-5
        assert bool(torch.isfinite(found.centroid_Kd).all())


def test_more_iterations_and_restarts_are_never_worse() -> None:
    inertia = [kmeans(data(), ids(), KMeans(9, iterations=count), World()).inertia for count in range(6)]
    assert inertia == sorted(inertia, reverse=True)
    assert inertia[0] > inertia[-1]
    restarted = [kmeans(data(), ids(), KMeans(9, restarts=count), World()).inertia for count in (1, 4, 8)]
    assert restarted == sorted(restarted, reverse=True)


@pytest.mark.parametrize("clusters", [0, ROWS + 1])
def test_an_impossible_number_of_clusters_is_rejected(clusters: int) -> None:
    with pytest.raises(UserError, match=rf"^{clusters} clusters of 90 samples: give a number from 1 to 90"):
        kmeans(data(), ids(), KMeans(clusters), World())


def test_features_that_are_not_finite_are_rejected() -> None:
    feature_nd = data()
    feature_nd[3, 1] = torch.nan
    with pytest.raises(UserError, match="some features are inf or NaN"):
        kmeans(feature_nd, ids(), KMeans(3), World())
