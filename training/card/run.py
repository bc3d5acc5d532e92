"""What a run's folder says about its model: the recipe, the progress of its checkpoint, its data and its results."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.data_pipelines.source_config import SplitConfig
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError
from tercet.eval.datasets import datasets
from tercet.eval.result import Result, from_json
from tercet.training.checkpoints.by_name import checkpoint_or_newest, run_and_checkpoint
from tercet.training.checkpoints.progress import Progress
from tercet.training.checkpoints.reader import CHECKPOINTS, CONFIG
from tercet.training.config import RunConfig
from tercet.training.evaluation.run import RESULTS
from tercet.training.folder import PROVENANCE
from tercet.training.history.evaluations import EVALUATIONS, Evaluations
from tercet.training.recipe import load_recipe


@dataclass(frozen=True)
class SourceFacts:
    """One source of samples. `samples` and `fingerprint` are None if the data are no longer where the run read them."""

    name: str
    label: str
    training: bool
    samples: int | None
    fingerprint: str | None
    drawn: int | None
    settings: dict[str, object]


@dataclass(frozen=True)
class RunFacts:
    """A run, as its folder describes it. `provenance` is empty if the run did not note its versions."""

    config: RunConfig
    stage: RunConfig
    progress: Progress
    sources: list[SourceFacts]
    results: list[Result]
    provenance: dict[str, str]


def run_facts(spec: str) -> RunFacts | None:
    """Of a run or one of its checkpoints, such as RUN@best. None for other models."""
    folder, checkpoint = run_and_checkpoint(spec)
    if not (folder / CHECKPOINTS).is_dir():
        return None
    saved = checkpoint_or_newest(folder, checkpoint)
    if saved is None:
        return None
    during = dict(Evaluations(folder / EVALUATIONS).results()) if checkpoint else {}
    config = load_recipe(str(folder / CONFIG))
    found: list[tuple[str, SplitConfig, bool]] = [(name, split, True) for name, split in config.data.train.items()]
    found += [(name, split, False) for name, split in _evaluated(config).items()]
    opened = OpenedSources()
    return RunFacts(
        config,
        config.stage(saved.progress.stage),
        saved.progress,
        [_source(config, name, split, training, saved.progress, opened) for name, split, training in found],
        during.get(saved.progress.step, []) if checkpoint else from_json(_read(folder / RESULTS, [])),
        _read(folder / PROVENANCE, {}),
    )


def _evaluated(config: RunConfig) -> dict[str, SplitConfig]:
    """What the run held out and, if the files of its tasks are still there, the data that they name."""
    found = dict(config.data.val)
    with suppress(UserError):
        found |= {name: one.split for name, one in datasets(config.eval.tasks, config.data.val).items()}
    return found


def _source(
    config: RunConfig, name: str, split: SplitConfig, training: bool, progress: Progress, opened: OpenedSources
) -> SourceFacts:
    settings = split.model_dump(mode="json", exclude_defaults=True, exclude={"source", "weight"})
    samples, fingerprint = None, None
    try:
        source = opened.open(config.data, split)
        samples, fingerprint = len(source), source.fingerprint
    except (UserError, OSError):
        pass
    drawn = progress.cursors.get(name, 0) if training else None
    return SourceFacts(name, label_of(split.source), training, samples, fingerprint, drawn, settings)


def label_of(source: str | tuple[str, ...]) -> str:
    """The last two parts of a path, because a card is public and the folders above may not be."""
    first, *others = (source,) if isinstance(source, str) else source
    label = "/".join(first.rstrip("/").split("/")[-2:])
    return f"{label} and {len(others)} more" if others else label


def _read(path: Path, missing: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else missing
