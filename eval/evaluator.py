"""Evaluates a model on the data of its tasks. Each dataset is embedded once, on all ranks, for all tasks on it."""

import sys
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from tercet.data_pipelines.bad_samples import summary
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.decode.sound_pairs import decoder_of
from tercet.data_pipelines.preflight.modalities import held_modalities
from tercet.data_pipelines.sample import AudioIntake, Batch, Sample
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.distributed import World
from tercet.eval.average import ALL, means, overall
from tercet.eval.config import EvalConfig
from tercet.eval.datasets import Dataset, datasets
from tercet.eval.embedding.decoded import decoded
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, embed, embed_batch, join
from tercet.eval.embedding.embed_data import embed_data
from tercet.eval.embedding.overlap import check_overlap
from tercet.eval.evaluate import measure, with_shortcuts
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure, results
from tercet.eval.missing import Missing
from tercet.eval.own_classes import OwnClasses
from tercet.eval.report.gallery import Gallery, galleries
from tercet.eval.report.selection import SelectedStep, selected_steps
from tercet.eval.result import Result
from tercet.eval.task import Task
from tercet.eval.trust.self_test import trust
from tercet.eval.trust.shortcuts import ridge_recall, spread
from tercet.eval.trust.simple_features import simple_features
from tercet.models.multimodal import Multimodal
from tercet.plural import number_of


@dataclass(frozen=True)
class Evaluated:
    """The results, the embeddings of each dataset, and the tasks whose data lack what they need."""

    results: list[Result]
    tables: Mapping[str, EmbeddingTable]
    missing: list[Missing] = field(default_factory=list)


@dataclass(frozen=True)
class InitialTowers:
    """The model as it was before training."""

    towers: Multimodal
    kind: str  # random or pretrained


@dataclass(frozen=True)
class TowerOutputs:
    """A model that stops before the projection."""

    model: Multimodal

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.embed_towers(batch)


class Evaluator:
    """Evaluates models on one run's held-out splits, and on the data that its tasks name. `embeddings`: a folder that
    keeps the embeddings of each model."""

    def __init__(
        self,
        data: DataConfig,
        config: EvalConfig,
        world: World,
        sources: OpenedSources | None = None,
        embeddings: Path | None = None,
    ) -> None:
        self.data, self.config, self.world = data, config, world
        self.sources = sources or OpenedSources()
        self.embeddings = embeddings

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """What the run is evaluated on, by name."""
        return datasets(self.config.tasks, self.data.val)

    def open(self, intakes: Collection[str]) -> None:
        """Opens the data that tasks name, and fails if they have nothing for a model of these modalities. A
        collective."""
        for dataset in self.datasets.values():
            if not dataset.held_out:
                source = self.sources.open_first(self.data, dataset.split, self.world)
                check_overlap(dataset.split, source, intakes, held_modalities(dataset.split, source))

    def __call__(self, model: Multimodal, initial: "InitialTowers | None" = None) -> Evaluated:
        """A collective. With `initial`, which only the first rank needs, adds the shortcut baselines of R@1. Without
        tasks, embeds nothing. A task whose data lack something is left out, so that the others are not lost; if all
        are, that is an error."""
        found: list[Result] = []
        missing: list[Missing] = []
        measures: dict[str, list[Measure]] = {}
        tables = {}
        training = self._training_features(initial) if initial and self.datasets else []
        for name, dataset in self.datasets.items():
            tables[name] = self.table(model, name, dataset.split)
            features = self._features(initial, dataset.split) if initial and training else {}
            shortcuts = {
                kind: self._shortcut([one[kind] for one in training], table) for kind, table in features.items()
            }
            measures[name] = self._measured(tables[name], model, name, missing)
            found += [with_shortcuts(one, shortcuts) for one in results(measures[name], name)]
        if missing and not found:
            raise EvalError(missing[0].why)
        whole = overall(measures, {name: dataset.asked for name, dataset in self.datasets.items()})
        return Evaluated([*found, *results(whole, ALL)], tables, missing)

    def _measured(self, table: EmbeddingTable, model: Multimodal, name: str, missing: list[Missing]) -> list[Measure]:
        """What the tasks of a dataset measure, and the averages of their groups. Notes the tasks that are left out."""
        dataset = self.datasets[name]
        found: list[Measure] = []
        for task in load_tasks(self._tasks(dataset)):
            try:
                found += measure(table, model.embed_text, [task], self.config)
            except EvalError as error:
                missing.append(Missing(name, task.name, str(error)))
        return [*found, *means(found, dataset.asked, name)]

    def trust(self, evaluated: Evaluated) -> None:
        """Fails if an evaluation cannot be trusted: null models go through the same code. A collective."""
        left_out = {(one.dataset, one.task) for one in evaluated.missing}
        for name, table in evaluated.tables.items():
            for task in load_tasks(self._tasks(self.datasets[name])):
                if (name, task.name) not in left_out:
                    trust(table, task)

    def _tasks(self, dataset: Dataset) -> list[str | Task]:
        return dataset.classified(OwnClasses(self.config.labels, self.config.templates))

    def table(self, model: Multimodal, name: str, seen: SplitConfig) -> EmbeddingTable:
        """The embeddings of a dataset, on all ranks. A collective."""

        def again(source: str | None, towers: bool) -> EmbeddingTable:
            other = seen if source is None else seen.model_copy(update={"source": source, "part": None})
            return self._embedded(model, source or name, other, towers)

        return replace(self._embedded(model, name, seen), world=self.world, again=again, scales=model.scales)

    def _embedded(self, model: Multimodal, name: str, split: SplitConfig, towers: bool = False) -> EmbeddingTable:
        """From the folder of embeddings, if there is one. It has no outputs of towers."""
        captions = self.config.captions
        if self.embeddings and not towers:
            kept = embed_data(model, self.data, split, self.world, cache=self.embeddings, captions=captions)
            table, source = kept.table(), self.sources.open(self.data, split)
            check_overlap(split, source, model.intakes, table.modalities)
            return table
        decoder = self._decoder(model, split)
        loader = self._loader(model, decoder, self.world, captions=captions)
        embedder = TowerOutputs(model.eval()) if towers else model.eval()
        table = embed(embedder, self._batches(loader), self.world)
        check_overlap(split, decoder.source, model.intakes, table.modalities)
        self._report_faults(name, loader)
        return table

    def _loader(
        self,
        model: Multimodal,
        decoder: Decoder,
        world: World,
        ids: Sequence[int] | None = None,
        captions: int | None = 1,
    ) -> EvalLoader:
        return EvalLoader(
            decoder, model.intakes, self.config.batch_size, ids=ids, rank=world.rank, world=world.size,
            workers=self.data.workers, max_bad=self.data.max_bad, captions=captions,
        )  # fmt: skip

    def _batches(self, loader: EvalLoader) -> Iterator[Batch]:
        return (batch.to(self.world.device) for batch in loader)

    def _decoder(self, model: Multimodal, split: SplitConfig) -> Decoder:
        source = self.sources.open(self.data, split)
        return decoder_of(source, model.intakes, split, self.data.exact_images)

    def _report_faults(self, split: str, loader: EvalLoader) -> None:
        """Prints how many samples are missing from the results. A collective."""
        faults = [fault for faults in self.world.gather_objects(loader.faults) for fault in faults]
        if faults and self.world.first:
            count = number_of(len(faults), "sample")
            print(f"tercet: {count} of {split} could not be evaluated ({summary(faults)})", file=sys.stderr)

    def _training_features(self, initial: "InitialTowers") -> list[dict[str, EmbeddingTable]]:
        """Features of some samples of each training source; none of a stream, which cannot be read twice."""
        if self.data.mode == "stream":
            return []
        return [self._features(initial, source, self.config.shortcuts) for source in self.data.train.values()]

    def _shortcut(self, known: Sequence[EmbeddingTable], table: EmbeddingTable) -> dict[str, float]:
        """R@1 of each direction, fitted on the first source that has both of its modalities. Of this rank alone."""
        table = replace(table, world=World(device=self.world.device))
        return dict(ChainMap(*(ridge_recall(train, table, self.config.candidates) for train in known)))

    def _features(
        self, initial: "InitialTowers", split: SplitConfig, most: int | None = None
    ) -> dict[str, EmbeddingTable]:
        """The features of each shortcut baseline, of all samples or `most` of them. Holds one batch at a time."""
        decoder = self._decoder(initial.towers, split)
        ids = spread(len(decoder.source), most or len(decoder.source))
        captions = 1 if most else self.config.captions  # a fit uses one row of each sample
        loader = self._loader(initial.towers, decoder, World(device=self.world.device), ids, captions)
        embedded = []

        def samples() -> Iterator[Sample]:
            for batch in self._batches(loader):
                embedded.append(embed_batch(initial.towers.eval(), batch))
                yield from decoded(batch)

        simple = simple_features(samples(), sound_rate(initial.towers), captions)
        return {"ridge on simple features": simple, f"ridge on {initial.kind} towers": join(embedded)}

    def galleries(self, model: Multimodal, evaluated: Evaluated) -> list[Gallery]:
        """Retrieval examples from the first dataset that was embedded, with pictures and sounds."""
        if not evaluated.tables:
            return []
        name, table = next(iter(evaluated.tables.items()))
        decode = self._decoder(model, self.datasets[name].split)

        def load(id: int) -> Sample:
            (sample,) = decode([id], [CentreView()])
            assert isinstance(sample, Sample)  # it was embedded
            return sample

        return galleries(table, load, sound_rate(model), self.config.candidates)

    def selected(
        self, model: Multimodal, lines: Sequence[Mapping[str, Any]], train: Iterable[SplitConfig]
    ) -> list[SelectedStep]:
        """Samples that a selection chose and left, with pictures and sounds. Ids number the samples of all training
        sources, one source after another."""
        decoders = [self._decoder(model, split) for split in train] if lines else []

        def load(id: int) -> Sample | None:
            for decode in decoders:
                if id < len(decode.source):
                    (sample,) = decode([id], [CentreView()])
                    return sample if isinstance(sample, Sample) else None
                id -= len(decode.source)
            return None

        return selected_steps(lines, load, sound_rate(model))


def sound_rate(model: Multimodal) -> int:
    intake = model.intakes.get("audio")
    return intake.rate if isinstance(intake, AudioIntake) else 16000
