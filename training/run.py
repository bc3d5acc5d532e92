"""The functions that the command line and Python call to train a recipe or run the demo."""

from pathlib import Path

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import joined
from tercet.training.config import RunConfig
from tercet.training.evaluation.run import REPORT
from tercet.training.folder import open_folder
from tercet.training.preflight.checks import check_processes, counted, ready
from tercet.training.recipe import load_recipe
from tercet.training.runner import Runner


def train(config: RunConfig) -> Path:
    """Trains the run that the config describes, or resumes it; returns the run's folder."""
    sources = OpenedSources()
    config = ready(config, sources)
    with joined() as world:
        check_processes(config, world.size)
        config = counted(config, world, sources)
        with open_folder(config, world) as folder:
            Runner(config, folder, world, sources).finish()
    return folder


def demo(out: Path | None = None) -> Path:
    """Generates the built-in dataset, trains the recipe `demo` on it and evaluates it; returns the report's path."""
    config = load_recipe("demo", [f"out={out}"] if out else [])
    generate(WorldConfig(), Path(str(config.data.train["train"].source)).parent)
    return train(config) / REPORT
