"""A memory for tests, loaded as a plugin: of each episode, the mean of the two vectors of every sample.

Terms get the first of these vectors, in the order of the ids, and the sum of all as extra negatives.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch
from tercet.models.losses.rows import Rows
from tercet.training.memory.config import MemoryConfig, memory
from tercet.training.memory.episode import Episode, Learned, Recalled, SampleValues
from tercet.training.memory.memory import Memory, StageContext


@memory("field_means")
class MeansConfig(MemoryConfig):
    """Offers some mean vectors."""

    uses_episodes = True

    @property
    def fields_offered(self) -> tuple[str, ...]:
        return ("image",)

    def build(self, context: StageContext) -> Memory:
        return Means(torch.zeros(0, context.dim))


class Means(Memory):
    """One vector of a sample, and the sum of all."""

    def __init__(self, z_nd: Tensor) -> None:
        self.z_nd = z_nd

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return {"image": Rows.frozen(normalize(self.z_nd))}

    def episode(self, episode: Episode) -> Learned:
        image, text = episode.vectors["image"], episode.vectors["text"]
        assert image.id_n.equal(text.id_n)
        mean_nd = (image.z_nd + text.z_nd) / 2
        sum_d = episode.world.sum(mean_nd.sum(dim=0))
        return Learned({"sum": sum_d}, {"pair": SampleValues(image.id_n, {"mean": mean_nd})})

    def recall(self, recalled: Recalled) -> None:
        pieces = list(recalled.column("pair"))
        first = min(pieces, key=lambda piece: int(piece.id_n[0]))
        self.z_nd = torch.stack([first.values["mean"][0], recalled.tensors()["sum"]])
