"""`tercet curate` in Python: computes scores of samples, selects samples by rules, and writes a report about that."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.data import Data, looked_at, read_plainly
from tercet.api.embed import check_folder
from tercet.api.model import load
from tercet.configs.base import build
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.curate.cartography import import_cartography
from tercet.data_pipelines.curate.config import ScoreConfig
from tercet.data_pipelines.curate.duplicates.group import score_duplicates
from tercet.data_pipelines.curate.new_shards import write_shards as write_kept
from tercet.data_pipelines.curate.parts import usual_workers
from tercet.data_pipelines.curate.report.write import write_report
from tercet.data_pipelines.curate.rules.stages import stages_in, stages_of
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.curate.select import select as select_by
from tercet.data_pipelines.curate.selected import Selected
from tercet.data_pipelines.curate.signals.group import score_signals
from tercet.data_pipelines.curate.words_in_image import score_words_in_image
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World, joined
from tercet.errors import UserError
from tercet.eval.embedding.embed_data import embed_data
from tercet.eval.learnability import Scorer, score_learnability
from tercet.eval.score import score_similarity
from tercet.training.prototypes.semantic_duplicates import SemDeDup, score_semantic_duplicates


@dataclass(frozen=True)
class Scored:
    """The table, the name of the data in it, and how many rows each group has that was computed."""

    table: Path
    source: str
    rows: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {"table": str(self.table), "source": self.source, "rows": dict(self.rows)}

    def __str__(self) -> str:
        return "\n".join(f"{self.table / name}: {count:,} rows" for name, count in self.rows.items())


@dataclass(frozen=True)
class Scoring:
    """What all groups are computed from."""

    table: ScoreTable
    source: Source
    data: DataConfig
    split: SplitConfig
    config: ScoreConfig
    world: World

    @property
    def workers(self) -> int:
        return self.config.workers or usual_workers()

    def of(self, group: str) -> ScoreTask:
        return ScoreTask(self.table, self.config.source, group, self.source, self.world)

    def scorer(self, spec: str | None) -> Scorer:
        """The model, and its embeddings of the data, which are computed once and kept in the cache."""
        assert spec is not None  # the config has checked that
        towers = load(spec, self.world.device, self.config.dims).towers
        return Scorer(
            spec, towers, embed_data(towers, self.data, self.split, self.world, precision=self.config.precision)
        )


def score(data: Data, out: str | os.PathLike[str], **options: Any) -> Scored:
    """Computes groups of scores for every sample of the data, and writes them to the score table `out`.

    `options` are those of `ScoreConfig`, such as `groups="signals", workers=8` or `by="open_clip:…"`. An interrupted
    call resumes, on any number of ranks.
    """
    check_folder(out)
    config = build(ScoreConfig, options, lambda key: "scores")
    given = read_plainly(data) if config.by is None else looked_at(config.by, data)
    if len(given.val) != 1:
        raise UserError(f"only one data set can be scored at a time, and these are {len(given.val)}")
    (split,) = given.val.values()
    with joined() as world:
        source = OpenedSources().open_first(given, split, world)
        table = ScoreTable.begin(Path(out), TableSource.of(source, split.source, config.source))
        scoring = Scoring(table, source, given, split, config, world)
        groups = [COMPUTED[group](scoring, config.name or group) for group in config.computed]
        return Scored(Path(out), config.source, {group.name: group.rows(config.source) for group in groups})


def select(
    scores: str | os.PathLike[str],
    name: str,
    rules: Sequence[str] | Sequence[Mapping[str, Any]] | Mapping[str, Any] | str | os.PathLike[str],
    *,
    workers: int | None = None,
    memory: str = "4GB",
) -> Selected:
    """Decides by rules which samples of a score table to train on, and writes the decision as the group `name`.

    `rules`: a YAML file, what such a file holds, or words as the command line takes them. An interrupted call resumes.
    """
    table = ScoreTable(Path(scores))
    words = [os.fspath(rules)] if isinstance(rules, str | os.PathLike) else rules
    in_words = isinstance(words, Sequence) and all(isinstance(word, str) for word in words)
    stages = stages_of([str(word) for word in words]) if in_words else stages_in(words, "rules")
    return select_by(table, name, stages, workers or usual_workers(), memory)


def report(scores: str | os.PathLike[str], name: str, out: str | os.PathLike[str], *, data: Data | None = None) -> Path:
    """Writes a page about the decision `name`: what it drops and why, with examples.

    `data`: those of a table with one source, to show pictures and sounds of. By default, they are read where they were
    when they were scored, and left out if they are not there or have changed.
    """
    table = ScoreTable(Path(scores))
    return write_report(table, name, Path(out), _sources(table, data))


def write_shards(
    scores: str | os.PathLike[str],
    name: str,
    out: str | os.PathLike[str],
    *,
    data: Data | None = None,
    samples: int = 10_000,
    workers: int | None = None,
) -> dict[str, Any]:
    """Writes new shards with the samples that the decision `name` keeps, `samples` in each.

    Returns what `manifest.json` says of the shards, by source. A table with several sources gets a folder for each.
    """
    table = ScoreTable(Path(scores))
    sources = _sources(table, data)
    for missing in sorted(table.sources.keys() - sources.keys()):
        raise UserError(
            f"the samples of `{missing}` are not where they were scored, or have changed; name them with --data"
        )
    places = {source: Path(out) / source if len(sources) > 1 else Path(out) for source in sources}
    decision, count = table.group(name), workers or usual_workers()
    return {
        source: write_kept(decision, source, sources[source], place, samples, count) for source, place in places.items()
    }


def _sources(table: ScoreTable, data: Data | None) -> dict[str, Source]:
    """The sources of a table by name, as far as they can be opened and are the ones that were scored."""
    found = {}
    for name, known in table.sources.items():
        try:
            given = read_plainly(list(known.address) if data is None else data)
            (split,) = given.val.values()
            source = OpenedSources().open(given, split)
        except UserError:
            if data is not None:
                raise
            continue
        if source.fingerprint == known.fingerprint:
            found[name] = source
        elif data is not None:
            raise UserError(f"{data}: these are not the samples of the source `{name}` in {table.folder}")
    return found


def _signals(task: Scoring, group: str) -> ScoreGroup:
    return score_signals(task.of(group), task.split, task.workers)


def _duplicates(task: Scoring, group: str) -> ScoreGroup:
    return score_duplicates(task.of(group), task.split, task.workers)


def _words_in_image(task: Scoring, group: str) -> ScoreGroup:
    return score_words_in_image(task.of(group), task.split, task.workers)


def _similarity(task: Scoring, group: str) -> ScoreGroup:
    return score_similarity(task.of(group), task.scorer(task.config.by).store)


def _learnability(task: Scoring, group: str) -> ScoreGroup:
    learner, reference = task.scorer(task.config.by), task.scorer(task.config.reference)
    return score_learnability(task.of(group), learner, reference, task.config.batch_size, task.config.seed)


def _semantic_duplicates(task: Scoring, group: str) -> ScoreGroup:
    config = task.config
    options = SemDeDup(config.eps, config.clusters, config.among, config.seed)
    return score_semantic_duplicates(task.of(group), task.scorer(config.by).store, options)


def _cartography(task: Scoring, group: str) -> ScoreGroup:
    return import_cartography(task.of(group), Path(str(task.config.by)))


COMPUTED: Mapping[str, Callable[[Scoring, str], ScoreGroup]] = {
    "signals": _signals,
    "duplicates": _duplicates,
    "words_in_image": _words_in_image,
    "similarity": _similarity,
    "learnability": _learnability,
    "semantic_duplicates": _semantic_duplicates,
    "cartography": _cartography,
}
