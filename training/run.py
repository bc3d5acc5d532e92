"""What the command line and Python call: train a recipe, show the demo."""

from pathlib import Path

from tercet.configs.recipe import load_recipe
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.open import check_source
from tercet.distributed import joined
from tercet.training.config import RunConfig
from tercet.training.course import REPORT, Course
from tercet.training.folder import open_folder
from tercet.training.inherit import inherited


def train(config: RunConfig) -> Path:
    """Runs what the config says, or goes on with it; returns the run's folder."""
    config = inherited(config)
    check_data(config)
    with joined() as world, open_folder(config, world) as folder:
        Course(config, folder, world).finish()
    return folder


def demo(out: Path | None = None) -> Path:
    """From nothing to a report: generates the built-in world, trains the recipe `demo` on it and examines it."""
    config = load_recipe("demo", [f"out={out}"] if out else [])
    generate(WorldConfig(), Path(str(config.data.train["train"].source)).parent)
    return train(config) / REPORT


def check_data(config: RunConfig) -> None:
    """What is missing is said before anything is built."""
    for source in (*config.data.train.values(), *config.data.val.values()):
        check_source(source)
