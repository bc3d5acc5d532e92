"""How many of the samples that a run is evaluated on it was trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tercet.api.data import run_of
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.leaks.same_files import same_files
from tercet.data_pipelines.shards.address import is_url
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.result import Json
from tercet.main_process import is_main_process
from tercet.training.config import RunConfig
from tercet.training.pretrained import models_of


@dataclass(frozen=True)
class TrainedOn:
    """How many samples of a dataset have a picture or a sound that is in a run's training data."""

    model: str
    dataset: str
    count: int
    samples: int
    unknown: tuple[str, ...] = ()  # training sources that could not be compared, and why

    @property
    def warnings(self) -> list[str]:
        pair = f"{self.dataset} was not compared with all training data of {self.model}"
        missing = [f"{pair}: {why}" for why in self.unknown]
        if not self.count:
            return missing
        share = "all" if self.count == self.samples else f"{self.count:,} of the"
        known = (
            f"{self.model} was trained on {share} {self.samples:,} samples of {self.dataset} (same picture or sound)"
        )
        return [f"{known}; results on these say little about new samples", *missing]

    def to_json(self) -> Json:
        return {"count": self.count, "samples": self.samples, "not_compared": list(self.unknown)}


def trained_on(model: str, data: DataConfig, tables: Mapping[str, EmbeddingTable]) -> dict[str, TrainedOn]:
    """By dataset, where the model is a run, or some of several are. Only the main process compares, because only it
    prints."""
    if not (is_main_process() and any(map(run_of, models_of(model)))):
        return {}
    sources = OpenedSources()
    return {name: _compared(model, name, data, table, sources) for name, table in tables.items()}


def _compared(model: str, name: str, data: DataConfig, table: EmbeddingTable, sources: OpenedSources) -> TrainedOn:
    evaluated = sources.open(data, data.val[name])
    ids = [sample.id for sample in table.samples]
    known: set[int] = set()
    unknown = []
    for label, given, split in _training_sources(model):
        try:
            training = _on_disk(given, split, sources)
            same = same_files(evaluated, ids, training)
        except UserError as error:
            unknown.append(f"source `{label}`: {error}")
            continue
        known |= same.ids
        if same.behind_urls:
            unknown.append(f"source `{label}`: {same.behind_urls:,} of its {len(training):,} samples are behind URLs")
    return TrainedOn(model, name, len(known), len(ids), tuple(unknown))


def _on_disk(data: DataConfig, split: SplitConfig, sources: OpenedSources) -> Source:
    files = sources.files(split)
    if any(map(is_url, files.shards)):
        raise UserError("its shards are behind URLs")
    return sources.open(data, split)


def _training_sources(model: str) -> Iterator[tuple[str, DataConfig, SplitConfig]]:
    """The sources of every stage, each once, and of the runs that the run began with."""
    seen: set[str] = set()
    for run in _runs(model):
        for stage in map(run.stage, range(max(len(run.stages), 1))):
            for name, source in stage.data.train.items():
                if (key := repr((source.source, source.reading))) not in seen:
                    seen.add(key)
                    yield name, stage.data, source


def _runs(model: str) -> Iterator[RunConfig]:
    for name in models_of(model):
        run = run_of(name)
        while run:
            yield run
            run = run_of(run.init) if run.init else None
