"""Centroids of one field from the clusters of another: Prototype Back Translation (ProtoCLIP, Chen et al. 2023).

A picture is to learn from the cluster y of its caption. If it were compared with the centroids of captions, it would
first have to cross the gap between both modalities. So the centroids of captions are translated back: a picture is
compared with the means of pictures, grouped by the clusters of their captions,

    c_k = mean of z_i over the samples i with y_i = k

The means are not normalised. A cluster without a sample that has both fields has no centroid, and is masked. What a
memory does with them, and how it passes them on, is in `models/losses/prototype.py`.

Shapes: n samples of this rank, d dimensions, K clusters, e dimensions of the features that were clustered.
"""

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.problem import Prototypes

ROWS = 2**16  # that are in fp64 at a time


def means(feature_nd: Tensor, label_n: Tensor, clusters: int, world: World) -> tuple[Tensor, Tensor]:
    """The mean of the rows of each cluster over all ranks, and their number. Rows with the label −1 do not count.

    The mean of no rows is 0. A collective.
    """
    labelled_n = label_n >= 0
    total_Kd = torch.zeros(clusters, feature_nd.shape[1], dtype=torch.float64, device=feature_nd.device)
    for start in range(0, len(feature_nd), ROWS):
        among_n = labelled_n[start : start + ROWS]
        rows_nd = feature_nd[start : start + ROWS][among_n].double()
        total_Kd.index_add_(0, label_n[start : start + ROWS][among_n], rows_nd)
    count_K = world.sum(torch.bincount(label_n[labelled_n], minlength=clusters))
    return (world.sum(total_Kd) / count_K.clamp(min=1)[:, None]).to(feature_nd), count_K


def back_translated(feature_nd: Tensor, label_n: Tensor, teacher_Ke: Tensor, world: World) -> Prototypes:
    """What the rows of a field are compared with, from the features of this rank's samples. A collective.

    `label_n` is the cluster of each sample by another field, or by an external teacher, and −1 if the sample lacks
    that or has no feature. `teacher_Ke` are the centroids of these clusters in their own space.
    """
    centroid_Kd, count_K = means(feature_nd, label_n, len(teacher_Ke), world)
    return Prototypes(centroid_Kd, count_K > 0, teacher_Ke)
