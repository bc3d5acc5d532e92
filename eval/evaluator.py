"""A model and held-out shards in, results out: each split is embedded once, on all ranks, for all tasks."""

import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from tercet.data_pipelines.bad_samples import summary
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import AudioIntake, Batch, Field, Media, Sample
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.distributed import World
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, embed
from tercet.eval.evaluate import evaluate
from tercet.eval.overlap import check_overlap
from tercet.eval.report.gallery import Gallery, galleries
from tercet.eval.result import Result
from tercet.eval.shortcuts import ridge_recall, simple_features
from tercet.models.multimodal import Multimodal


@dataclass(frozen=True)
class Evaluated:
    """The numbers, and each split's embeddings for whoever wants to look closer."""

    results: list[Result]
    tables: Mapping[str, EmbeddingTable]


class Evaluator:
    """Examines models on one run's held-out splits."""

    def __init__(
        self, data: DataConfig, config: EvalConfig, world: World, sources: OpenedSources | None = None
    ) -> None:
        self.data, self.config, self.world = data, config, world
        self.sources = sources or OpenedSources()

    def __call__(self, model: Multimodal, untrained: Multimodal | None = None) -> Evaluated:
        """A collective. `untrained`, the same towers as they began, puts the shortcuts beside R@1 on the first rank."""
        results: list[Result] = []
        tables = {}
        known = self._fitted(untrained) if untrained and self.world.first else []
        for split, source in self.data.val.items():
            tables[split] = self.table(model, split)
            asked = self._witless(untrained, source) if untrained and known else {}
            shortcuts = {name: self._shortcut([of[name] for of in known], table) for name, table in asked.items()}
            results += evaluate(tables[split], model.embed_text, self.config.tasks, self.config, split, shortcuts)
        return Evaluated(results, tables)

    def table(self, model: Multimodal, split: str) -> EmbeddingTable:
        """The split's embeddings. A collective."""
        decoder = self._decoder(model, self.data.val[split])
        loader = self._loader(model, decoder, self.world)
        table = embed(model.eval(), self._batches(loader), self.world)
        check_overlap(self.data.val[split], decoder.source, model.intakes, table.modalities)
        self._tell(split, loader)
        return table

    def _loader(self, model: Multimodal, decoder: Decoder, world: World) -> EvalLoader:
        return EvalLoader(
            decoder, model.intakes, self.config.batch_size,
            rank=world.rank, world=world.size, workers=self.data.workers, max_bad=self.data.max_bad,
        )  # fmt: skip

    def _batches(self, loader: EvalLoader) -> Iterator[Batch]:
        return (batch.to(self.world.device) for batch in loader)

    def _decoder(self, model: Multimodal, split: SplitConfig) -> Decoder:
        source = self.sources.open(self.data, split)
        return Decoder(source, model.intakes, split, self.data.exact_images)

    def _tell(self, split: str, loader: EvalLoader) -> None:
        """Numbers about some of the samples say so. A collective."""
        faults = [fault for faults in self.world.gather_objects(loader.faults) for fault in faults]
        if faults and self.world.first:
            said = f"tercet: {len(faults)} samples of {split} are not in its numbers ({summary(faults)})"
            print(said, file=sys.stderr)

    def _fitted(self, towers: Multimodal) -> list[dict[str, EmbeddingTable]]:
        """What is streamed is not read for the sake of a shortcut."""
        if self.data.mode == "stream":
            return []
        return [self._witless(towers, source, self.config.shortcuts) for source in self.data.train.values()]

    def _shortcut(self, known: Sequence[EmbeddingTable], table: EmbeddingTable) -> dict[str, float]:
        """Each direction as the first source that carries both of its modalities teaches it."""
        return dict(ChainMap(*(ridge_recall(train, table, self.config.candidates) for train in known)))

    def _witless(self, towers: Multimodal, split: SplitConfig, most: int | None = None) -> dict[str, EmbeddingTable]:
        """What shortcuts reach on some samples: simple features, and towers that learned nothing."""
        alone = World(device=self.world.device)
        count = None if most is None else -(-most // self.config.batch_size)
        loader = self._loader(towers, self._decoder(towers, split), alone)
        batches = list(islice(self._batches(loader), count))
        samples = (sample for batch in batches for sample in decoded(batch))
        return {
            "colours and spectra": simple_features(samples, sound_rate(towers)),
            "random towers": embed(towers.eval(), batches, alone),
        }

    def galleries(self, model: Multimodal, examined: Evaluated) -> list[Gallery]:
        """What the model brings back on the first split, to be seen and heard."""
        split, table = next(iter(examined.tables.items()))
        decode = self._decoder(model, self.data.val[split])

        def load(id: int) -> Sample:
            (sample,) = decode([id], [CentreView()])
            assert isinstance(sample, Sample)  # it was embedded
            return sample

        return galleries(table, load, sound_rate(model), self.config.candidates)


def sound_rate(model: Multimodal) -> int:
    intake = model.intakes.get("audio")
    return intake.rate if isinstance(intake, AudioIntake) else 16000


def decoded(batch: Batch) -> Iterator[Sample]:
    """The batch's samples with their media."""
    rows = {name: dict(zip(field.item.tolist(), range(len(field)), strict=True)) for name, field in batch}
    for item, sample in enumerate(batch.samples):
        there = {name: rows[name][item] for name in rows if name != "text" and item in rows[name]}
        yield replace(sample, media={name: media_of(batch.fields[name], row) for name, row in there.items()})


def media_of(field: Field, row: int) -> Media:
    """One row as it was decoded: a picture's channels last, and of a sound what was heard."""
    values = field.values[row] if field.lengths is None else field.values[row, : int(field.lengths[row])]
    return (values.permute(1, 2, 0) if field.modality == "image" else values).cpu().numpy()
