"""The checks before a run builds its model. `--dry-run` makes these checks and stops."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import check_fields_installed, check_graphs
from tercet.data_pipelines.further_files import PLACE
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.preflight.declared import (
    check_columns,
    check_further_files,
    check_orders,
    check_source,
    check_streams,
)
from tercet.data_pipelines.preflight.modalities import check_modalities
from tercet.data_pipelines.preflight.quick_open import open_at_once
from tercet.data_pipelines.preflight.variety import warn_if_all_alike
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.datasets import datasets
from tercet.main_process import say
from tercet.models.encoders import check_encoder
from tercet.models.losses import Objective, build_term
from tercet.models.projector import check_prototypes
from tercet.models.term_config import TermConfig
from tercet.training.checkpoints.plans import check_plan
from tercet.training.checkpoints.progress import Progress
from tercet.training.checkpoints.reader import CHECKPOINTS, resume_point
from tercet.training.config import RunConfig, check_steps
from tercet.training.engines.optimizers import optimizers
from tercet.training.episodes.curate import read_texts
from tercet.training.episodes.orders import data_after
from tercet.training.features.cached import check_stored, decoded
from tercet.training.folder import check_no_other_files, check_same_run, folder_of
from tercet.training.mixup.config import MixupConfig
from tercet.training.preflight.complete import inherited
from tercet.training.preflight.tasks import check_evaluation
from tercet.training.selection.select import build_rule

BUILTIN = "builtin"  # the folder of the recipe `demo`
NO_FOLDER = set("*?[{:")  # signs of patterns and URLs


def ready(config: RunConfig, sources: OpenedSources) -> RunConfig:
    """Checks that everything that the stages name exists, and returns the complete config."""
    check_steps(config)
    config = inherited(config)
    for stage in _stages(config):
        optimizers.get(stage.optimizer.name)
        for modality, tower in stage.model.towers.items():
            check_encoder(modality, tower)
        for term in stage.terms:
            check_term(term, build_term(term), stage.data)
            check_prototypes(term, build_term(term), stage.terms)
            if stage.source_weights:
                check_gradient(term, build_term(term))
            if stage.mixup:
                check_mixes(term, build_term(term), stage.mixup)
        for name, memory in stage.all_memories.items():
            memory.check_files(name)
        if stage.selection:
            build_rule(stage.selection).check(stage)
            check_bad(stage.selection.bad, stage.data)
        if stage.episodes and stage.episodes.curate:
            read_texts(stage.episodes.curate.metadata)
        check_fields_installed(stage.fields)
        check_graphs(stage.fields)
        check_data(stage, sources)
    check_episodes(config)
    check_selected(config)
    check_evaluation(config, sources)
    return config


def check_term(term: TermConfig, objective: Objective, data: DataConfig) -> None:
    """Raises `UserError` if the data lack what the objective of a term needs: numbers of each sample, or stable ids."""
    for name in objective.values:
        if name not in data.values:
            raise UserError(
                f"terms.{term.name}: `{term.objective.name}` uses the value `{name}` of each sample. Say where it is, "
                f"such as data.values={{{name}: json.{name}}}"
            )
    if objective.columns and data.mode == "stream":
        raise UserError(
            f"terms.{term.name}: `{term.objective.name}` keeps values of samples, which needs stable sample ids; a "
            "stream lacks them, set data.mode=index"
        )


def check_gradient(term: TermConfig, objective: Objective) -> None:
    """Raises `UserError` if `source_weights` cannot compute the gradient of a term for samples of a target."""
    if objective.columns:
        raise UserError(
            f"terms.{term.name}: `{term.objective.name}` keeps values of training samples, which a target lacks; leave "
            "`source_weights` out, or take another objective"
        )


def check_mixes(term: TermConfig, objective: Objective, mixup: MixupConfig) -> None:
    """Raises `UserError` if the objective of a term of mixed samples cannot learn mixed targets."""
    if {*term.between} & {*mixup.fields} and not objective.mixes:
        raise UserError(
            f"terms.{term.name}: `{term.objective.name}` as it is set learns no mixed targets, which `mixup` makes; "
            "take infonce without filters or weights of negatives, or remove `mixup`"
        )


def check_bad(name: str | None, data: DataConfig) -> None:
    """Raises `UserError` if the data do not say which samples are known to be bad."""
    if name is not None and name not in data.values:
        raise UserError(
            f"selection.bad: `{name}` is none of data.values. Say where it is, such as "
            f"data.values={{{name}: json.{name}}}"
        )


def check_episodes(config: RunConfig) -> None:
    """Raises `UserError` if something needs episodes, and no stage has any."""
    needs = [key for stage in _stages(config) for key in stage.uses_episodes]
    if needs and not any(stage.episodes for stage in _stages(config)):
        raise UserError(
            f"{needs[0]} computes from the vectors of episodes, and there are none. Say when they are, such as "
            "episodes={every: 1000}"
        )


def check_selected(config: RunConfig) -> None:
    """Raises `UserError` if a memory needs what a selection leaves out, and no stage has a selection."""
    needs = [name for stage in _stages(config) for name, memory in stage.memories.items() if memory.uses_selection]
    if needs and not any(stage.selection for stage in _stages(config)):
        raise UserError(
            f"memories.{needs[0]} keeps samples that a selection leaves out, and there is none. Add one, such as "
            "selection={name: loss, filter_ratio: 0.5}"
        )


def check_data(config: RunConfig, sources: OpenedSources) -> None:
    check_streams(config.data, sources)
    target = [config.source_weights.target] if config.source_weights else []
    named = {"data": config.data.train.values(), "data.val": config.data.val.values(), "source_weights.target": target}
    for key, source in ((key, source) for key, splits in named.items() for source in splits):
        check_folder(key, source.source)
        check_source(source, sources)
    check_orders(config.data)
    check_columns(config.data, _learned(config), sources)
    used = {name for term in config.terms for name in term.fields}
    places = [field.source for name, field in config.fields.items() if name in used]
    further = [place.removeprefix(PLACE) for place in places if place.startswith(PLACE)]
    check_further_files(config.data, further, sources)


def check_folder(key: str, source: str | Sequence[str]) -> None:
    """Refuses a folder that does not exist, such as that of a built-in recipe, and says how to name another."""
    if (
        isinstance(source, str)
        and not Path(source).suffix
        and not set(source) & NO_FOLDER
        and not Path(source).exists()
    ):
        folder = Path(source).parent
        written = f", or write it: tercet data generate --out {folder}" if folder.name == BUILTIN else ""
        raise UserError(f"{source} does not exist; name a folder, a table or shards as {key}=PATH{written}")


def check_processes(config: RunConfig, processes: int) -> None:
    """Raises `UserError` if the strata of a selection or of mixup, or the samples of a gradient, do not divide evenly
    among the processes."""
    for stage in _stages(config):
        if stage.selection:
            stage.selection.strata_on(stage.batch_size, processes)
        if stage.source_weights:
            stage.source_weights.samples_on(stage.drawn, processes)
        if stage.mixup:
            stage.mixup.strata_on(stage.batch_size, processes)


def counted(config: RunConfig, world: World, sources: OpenedSources) -> RunConfig:
    """The config with `epochs` converted to steps. An epoch is one pass over all sources. A collective."""
    if config.epochs is None:
        return config
    train = config.data.train
    opened = {name: sources.open_first(config.data, one, world) for name, one in train.items()}
    return config.counted(make_schedule(config.data, opened, config.drawn, config.seed).plan.samples)


def dry_run(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """Returns the complete config, and a list of what was not checked. Writes nothing and reads no large dataset."""
    sources = OpenedSources()
    config = ready(config, sources)
    opened = [(stage, _opened(stage.data, sources)) for stage in _stages(config)]
    unchecked = dict.fromkeys(name for stage, found in opened for name in _unopened(stage, found, sources))
    if not unchecked:
        config = counted(config, World(), sources)
    check_no_other_files(folder_of(config))
    if config.epochs is None:
        check_same_run(config)
    _check_opened(config, opened)
    return config, [*unchecked, "towers and their weights"]


def _check_opened(config: RunConfig, opened: Sequence[tuple[RunConfig, dict[str, Source]]]) -> None:
    """Makes the loader's checks for the current and later stages, where all sources of the stage are open."""
    saved = resume_point(folder_of(config) / CHECKPOINTS, World())
    progress = saved.progress if saved else Progress()
    for stage, found in opened[progress.stage :]:
        check_stored(stage, found)
        if found.keys() == stage.data.train.keys():
            check_modalities(stage.data.train, found, _learned(stage))
            warn_if_all_alike(stage.data.train, found, _learned(stage))
            data = data_after(stage, progress.episode, found, folder_of(config))
            used = {name for term in stage.terms for name in term.fields}
            graphs = {one.graph for name, one in stage.fields.items() if name in used and one.graph}
            schedule = make_schedule(data, found, stage.drawn, stage.seed, graphs)
            check_plan(config, stage, schedule.plan, progress, folder_of(config))
            for line in schedule.remarks():
                say(line)
        progress = Progress()  # where the sources of a later stage will start is not known yet


def _opened(data: DataConfig, sources: OpenedSources) -> dict[str, Source]:
    """The training sources that open in a few seconds."""
    if data.mode == "stream":
        return {}
    return {name: found for name, one in data.train.items() if (found := open_at_once(data, one, sources)) is not None}


def _unopened(config: RunConfig, opened: Collection[str], sources: OpenedSources) -> list[str]:
    """The sources of a stage that take longer to open. A dry run does not check their samples."""
    evaluated = {name: one.split for name, one in datasets(config.eval.tasks, config.data.val).items()}
    closed = [name for name, split in evaluated.items() if open_at_once(config.data, split, sources) is None]
    return [f"samples of {name}" for name in (*(name for name in config.data.train if name not in opened), *closed)]


def _learned(config: RunConfig) -> list[str]:
    """The modalities that terms train and that the run decodes."""
    return decoded(config, (field for term in config.terms for field in term.between))


def _stages(config: RunConfig) -> Iterator[RunConfig]:
    return map(config.stage, range(max(1, len(config.stages))))
