"""Prints what a recipe would run."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tercet.data_pipelines.composition import EPISODE
from tercet.data_pipelines.config import SourceConfig, SplitConfig, WeightsConfig
from tercet.eval.datasets import datasets
from tercet.main_process import is_main_process
from tercet.models.config import TowerConfig
from tercet.models.term_config import TermConfig
from tercet.training.config import RunConfig
from tercet.training.episodes.config import EpisodesConfig
from tercet.training.source_weights.config import SourceWeightsConfig


def print_plan(config: RunConfig, unseen: Sequence[str]) -> None:
    """The run in a dozen lines, with each stage, and what was not checked. Only the main process prints."""
    if not is_main_process():
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*_lines(config), ("not checked", ", ".join(unseen))):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _lines(config: RunConfig) -> list[tuple[str, str]]:
    lines = [
        ("run", f"{config.name} → {config.out or f'runs/{config.name}'}"),
        *(("data", _source(name, source)) for name, source in config.data.train.items()),
        *([("", _weights(config.data.weights))] if config.data.weights else []),
        ("validation", _validation(config) or "nothing"),
        *([("init", config.init)] if config.init else []),
        *((modality, _tower(tower)) for modality, tower in config.model.towers.items()),
    ]
    for index in range(max(1, len(config.stages))):
        stage = config.stage(index)
        title = f"stage {config.stages[index].name}" if config.stages else "training"
        lines += [(title, _training(stage)), ("", _terms(stage))]
        lines += [("", _episodes(stage.episodes))] if stage.episodes else []
        lines += [("", _source_weights(stage.source_weights))] if stage.source_weights else []
    rows = f"micro-batches of {config.micro_batch}, gradients cached" if config.micro_batch else "without micro-batches"
    engine = f"plain torch on one process, DeepSpeed at ZeRO {config.zero} on several"
    lines += [
        ("engine", f"{config.precision}, {rows}; {engine}"),
        ("evaluation", ", ".join(config.eval.tasks)),
    ]
    return lines


def _validation(config: RunConfig) -> str:
    evaluated = datasets(config.eval.tasks, config.data.val).values()
    return ", ".join(_split(one.split) for one in evaluated)


def _tower(tower: TowerConfig) -> str:
    trains = {None: "trains", 0: "locked"}.get(tower.unlocked, f"last {tower.unlocked} blocks train")
    trains = f"updates of rank {tower.lora.rank} train" if tower.lora else trains
    parts = [tower.encoder or "as `init` has it", *(["an adapter trains"] if tower.adapter else []), trains]
    slower = f", each block at {tower.layer_decay:g} × that above it" if tower.layer_decay != 1 else ""
    return ", ".join(parts) + (f" at {tower.lr_scale:g} × lr" if tower.lr_scale != 1 else "") + slower


def _training(config: RunConfig) -> str:
    rate = f"{config.optimizer.name} at {config.optimizer.lr:g}, {config.schedule.name}"
    batch = f"{config.batch_size:,}"
    if config.selection:
        strata = config.selection.strata_of(config.batch_size)
        batch += f" kept from {config.drawn:,} by {config.selection.name} in {strata} strata"
    if config.epochs:
        return f"{config.length} of {batch}; {rate}"
    return f"{config.steps:,} steps of {batch} = {config.steps * config.batch_size:,} samples; {rate}"


def _terms(config: RunConfig) -> str:
    named = (f"{term.name} {term.objective.name} × {_weight(term)}" for term in config.terms)
    return ", ".join(named) or "trained as `init` was"


def _episodes(config: EpisodesConfig) -> str:
    every = f"{config.every:,} steps" if config.every >= 1 else f"{config.every:.3g} of its steps"
    samples = "all samples" if config.samples is None else f"{config.samples:,} samples"
    trained = ", on which the next steps train" if config.train_on == "drawn" else ""
    if config.curate:
        trained = f"; the next steps train on those that are like a text of {config.curate.metadata}"
    return f"an episode every {every}, of {samples}{trained}"


def _source_weights(config: SourceWeightsConfig) -> str:
    every = f"{config.every:,} steps" if config.every >= 1 else f"{config.every:.3g} of its steps"
    return f"weights of the sources change every {every}, towards {_split(config.target)}"


def _weight(term: TermConfig) -> str:
    first, last = term.weight_at(0), term.weight_at(1)
    return f"{first:g}" if first == last else f"{first:g} to {last:g}"


def _source(name: str, source: SourceConfig) -> str:
    share = f" × {source.weight:g}" if source.weight != 1 else ""
    listed = f", listed in {source.list}" if source.list else ""
    return f"{name}: {_split(source)}{share}{listed}{_composed(source)}"


def _weights(rule: WeightsConfig) -> str:
    if rule.by == "uniform":
        return "equally many samples from each source"
    return "sources weighed by their sizes" + (f" to the power of {rule.exponent:g}" if rule.exponent != 1 else "")


def _composed(source: SourceConfig) -> str:
    if source.neighbors:
        each = source.neighbors.num_negatives
        share = each / (1 + each) if source.neighbors.share is None else source.neighbors.share
        graph = "the vectors of each episode" if source.neighbors.graph == EPISODE else source.neighbors.graph
        return f", {share:.3g} of it neighbours by {graph}"
    if source.clusters:
        each_batch = "one cluster" if source.clusters.mix == "between_batches" else "all clusters"
        column = "the vectors of each episode" if source.clusters.column == EPISODE else source.clusters.column
        return f", each batch from {each_batch} by {column}"
    return ""


def _split(split: SplitConfig) -> str:
    listed = split.source if isinstance(split.source, str) else ", ".join(split.source)
    return f"{split.part[1] - split.part[0]:.0%} of {listed}" if split.part else listed
