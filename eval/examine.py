"""A model and held-out shards in, results out: embeds each split once and asks every task of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

import torch

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.eval_loader import EvalLoader
from tercet.data_pipelines.sample import AudioIntake, Batch, Sample
from tercet.data_pipelines.shards.read import open_shards
from tercet.distributed import World
from tercet.eval.cheats import ridge_recall, simple_features
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, embed
from tercet.eval.evaluate import Cheats, evaluate
from tercet.eval.result import Result
from tercet.models.multimodal import Multimodal


@dataclass(frozen=True)
class Examined:
    """What came of an evaluation: the numbers, and each split's embeddings for whoever wants to look closer."""

    results: list[Result]
    tables: Mapping[str, EmbeddingTable]


class Examiner:
    """Examines models on one run's data. Every method is a collective."""

    def __init__(self, data: DataConfig, config: EvalConfig, world: World) -> None:
        self.data, self.config, self.world = data, config, world

    def __call__(self, model: Multimodal, untrained: Multimodal | None = None) -> Examined:
        """`untrained`: the same towers as they began, for the cheats."""
        model.eval()
        results, tables = [], {}
        for split in self.data.val:
            tables[split] = self.embed(model, split)
            cheats = self.cheats(model, untrained, split) if untrained is not None and self.config.cheats else None
            results += evaluate(tables[split], model.embed_text, self.config.tasks, self.config, split, cheats)
        return Examined(results, tables)

    def embed(self, model: Multimodal, split: str) -> EmbeddingTable:
        return embed(model.eval(), self.batches(model, split), self.world)

    def batches(self, model: Multimodal, split: str) -> Iterator[Batch]:
        return (batch.to(self.world.device) for batch in self._loader(model, self.data.val[split]))

    def cheats(self, model: Multimodal, untrained: Multimodal, split: str) -> Cheats:
        """R@1 of simple features and of untrained towers, both carried over by ridge regression fitted on training samples."""
        
