"""Centroids equal naive means, on one process and on two; principal components equal a singular value decomposition."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.problem import Prototypes
from tercet.testing import on_ranks
from tercet.training.prototypes.centroids import back_translated, means
from tercet.training.prototypes.kmeans import KMeans, kmeans
from tercet.training.prototypes.pca import principal_components

ROWS, DIM, CLUSTERS = 40, 6, 5
EMPTY = 3


def features(seed: int, dim: int = DIM) -> Tensor:
    return torch.randn(ROWS, dim, generator=torch.Generator().manual_seed(seed))


def labels() -> Tensor:
    """No sample is in one of the clusters, and some are in none."""
    label_n = torch.randint(-1, CLUSTERS - 1, (ROWS,), generator=torch.Generator().manual_seed(9))
    return torch.where(label_n == EMPTY, CLUSTERS - 1, label_n)


def of_rank(world: World) -> tuple[Prototypes, Tensor, Tensor]:
    own = slice(0, 13) if world.rank == 0 else slice(13, ROWS)
    own = own if world.size == 2 else slice(0, ROWS)
    translated = back_translated(features(1)[own], labels()[own], features(2)[:CLUSTERS], world)
    projection = principal_components(features(3, 12)[own], 4, world)
    return translated, projection.axis_dp, projection(features(3, 12))


def test_back_translated_centroids_are_naive_means() -> None:
    expected = torch.zeros(CLUSTERS, DIM)
    counts = [0] * CLUSTERS
    for row, label in zip(features(1), labels().tolist(), strict=True):
        if label >= 0:
            expected[label] += row
            counts[label] += 1
    assert min(labels()) == -1
    assert counts.index(0) == EMPTY
    for rank in (of_rank(World()), *on_ranks(of_rank, 2)):
        translated, _, _ = rank
        for cluster, count in enumerate(counts):
            if count:
                torch.testing.assert_close(translated.centroid_Kd[cluster], expected[cluster] / count)
        assert translated.exists_K.tolist() == [count > 0 for count in counts]
        assert torch.equal(translated.teacher_Ke, features(2)[:CLUSTERS])


def test_two_processes_have_the_same_axes_as_one() -> None:
    _, axis_dp, value_np = of_rank(World())
    for _, other_dp, other_np in on_ranks(of_rank, 2):
        torch.testing.assert_close(other_dp, axis_dp, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other_np, value_np, rtol=1e-5, atol=1e-5)


def test_principal_components_are_those_of_the_singular_value_decomposition() -> None:
    feature = features(3, 12).double().numpy()
    left, value, right = np.linalg.svd(feature - feature.mean(axis=0), full_matrices=False)
    projection = principal_components(features(3, 12), 4, World())
    for number in range(4):
        sign = np.sign(right[number][np.abs(right[number]).argmax()])
        torch.testing.assert_close(
            projection.axis_dp[:, number].double(), torch.from_numpy(sign * right[number]), rtol=1e-4, atol=1e-5
        )
        found = projection(features(3, 12))[:, number].double()
        torch.testing.assert_close(
            found, torch.from_numpy(sign * left[:, number] * value[number]), rtol=1e-3, atol=1e-4
        )


def test_too_many_principal_components_are_rejected() -> None:
    with pytest.raises(UserError, match="7 principal components of 6 dimensions: give a number from 1 to 6"):
        principal_components(features(0), 7, World())


def test_translated_back_the_gap_between_modalities_does_not_matter() -> None:
    """Pictures are captions moved by a constant. The nearest centroid is that of the own cluster only after PBT."""
    random = torch.Generator().manual_seed(4)
    true_n = torch.arange(ROWS) % CLUSTERS
    text_nd = torch.eye(DIM)[true_n] + 0.05 * torch.randn(ROWS, DIM, generator=random)
    image_nd = text_nd + 3 * torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 0.0])
    found = kmeans(text_nd, torch.arange(ROWS), KMeans(CLUSTERS, restarts=3), World())
    translated = back_translated(image_nd, found.label_n, found.centroid_Kd, World())
    right = [
        (torch.cdist(image_nd, centroid_Kd).argmin(dim=1) == found.label_n).float().mean()
        for centroid_Kd in (found.centroid_Kd, translated.centroid_Kd)
    ]
    assert right[1] == 1
    assert right[0] < 0.5


def test_means_of_rows_of_another_rank_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank without rows gets the same means, and chunks do not change them."""
    for mean_Kd, count_K in on_ranks(without_rows, 2):
        expected, counts = means(features(1), labels(), CLUSTERS, World())
        torch.testing.assert_close(mean_Kd, expected)
        assert torch.equal(count_K, counts)


def without_rows(world: World) -> tuple[Tensor, Tensor]:
    from tercet.training.prototypes import centroids

    centroids.ROWS = 7
    own = slice(0, 0) if world.rank == 0 else slice(0, ROWS)
    return means(features(1)[own], labels()[own], CLUSTERS, world)
