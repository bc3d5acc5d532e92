"""How a run begins: what it would fail on is said before anything is built. A dry run is this beginning, stopped."""

from collections.abc import Iterator

from tercet.data_pipelines.preflight.declared import check_columns, check_source, check_streams
from tercet.data_pipelines.preflight.modalities import check_held
from tercet.data_pipelines.preflight.quick_open import open_at_once
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.modality import modality_of
from tercet.models.encoders import family_of
from tercet.models.losses import build_objective
from tercet.training.complete_config import inherited
from tercet.training.config import RunConfig
from tercet.training.folder import check_same_run
from tercet.training.optimizers import optimizers
from tercet.training.run_evaluation import check_asked
from tercet.training.selection.select import build_rule


def ready(config: RunConfig, sources: OpenedSources) -> RunConfig:
    """The run in full, all of whose stages name what there is."""
    config = inherited(config)
    for stage in _stages(config):
        optimizers.get(stage.optimizer.name)
        for modality, tower in stage.model.towers.items():
            family_of(modality, tower)
        for term in stage.terms:
            build_objective(term.objective)
        if stage.selection:
            build_rule(stage.selection)
        check_data(stage, sources)
    check_asked(config)
    return config


def check_data(config: RunConfig, sources: OpenedSources) -> None:
    check_streams(config.data, sources)
    for source in (*config.data.train.values(), *config.data.val.values()):
        check_source(source, sources)
    check_columns(config.data, _learned(config), sources)


def check_processes(config: RunConfig, processes: int) -> None:
    """Refuses a selection whose strata cannot be shared among so many processes."""
    for stage in _stages(config):
        if stage.selection:
            stage.selection.strata_on(stage.batch_size, processes)


def counted(config: RunConfig, world: World, sources: OpenedSources) -> RunConfig:
    """The run with its steps: where a recipe gives epochs, they are passes over all sources together. A collective."""
    if config.epochs is None:
        return config
    opened = [sources.open_first(config.data, source, world) for source in config.data.train.values()]
    return config.counted(sum(map(len, opened)))


def dry_run(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """The run in full, and in words what was not looked at. Nothing of it is written, and no large data set is gone
    through."""
    sources = OpenedSources()
    config = ready(config, sources)
    unseen = dict.fromkeys(name for stage in _stages(config) for name in _unseen(stage, sources))
    if not unseen:
        config = counted(config, World(), sources)
    if config.epochs is None:
        check_same_run(config)
    return config, [*unseen, "towers and their weights"]


def _unseen(config: RunConfig, sources: OpenedSources) -> list[str]:
    """The sources of a stage that are too large to be looked into; the others are."""
    data = config.data
    indexed = {} if data.mode == "stream" else data.train
    opened = {name: source for name, one in indexed.items() if (source := open_at_once(data, one, sources)) is not None}
    if opened.keys() == data.train.keys():
        check_held(data.train, opened, _learned(config))
    learned = [name for name in data.train if name not in opened]
    held_out = [name for name, one in data.val.items() if open_at_once(data, one, sources) is None]
    return [f"samples of {name}" for name in (*learned, *held_out)]


def _learned(config: RunConfig) -> list[str]:
    return sorted({modality_of(field) for term in config.terms for field in term.between})


def _stages(config: RunConfig) -> Iterator[RunConfig]:
    return map(config.stage, range(max(1, len(config.stages))))
