"""What the command line and Python call: train a recipe, show the demo."""

from pathlib import Path

from tercet.configs.recipe import load_recipe
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.open import check_columns, check_source, open_first
from tercet.distributed import World, joined
from tercet.errors import UserError
from tercet.training.config import RunConfig
from tercet.training.course import Course
from tercet.training.examination import REPORT
from tercet.training.folder import open_folder
from tercet.training.inherit import inherited


def train(config: RunConfig) -> Path:
    """Runs what the config says, or goes on with it; returns the run's folder."""
    config = inherited(config)
    check_data(config)
    with joined() as world:
        config = counted(config, world)
        with open_folder(config, world) as folder:
            Course(config, folder, world).finish()
    return folder


def counted(config: RunConfig, world: World) -> RunConfig:
    """The run with its steps: where a recipe gives epochs, they are passes over all sources together. A collective."""
    if config.epochs is None:
        return config
    if config.data.mode == "stream":
        raise UserError("`epochs` needs data that can be counted: give `steps`, or set data.mode=index")
    return config.counted(sum(len(open_first(config.data, source, world)) for source in config.data.train.values()))


def demo(out: Path | None = None) -> Path:
    """From nothing to a report: generates the built-in world, trains the recipe `demo` on it and examines it."""
    config = load_recipe("demo", [f"out={out}"] if out else [])
    generate(WorldConfig(), Path(str(config.data.train["train"].source)).parent)
    return train(config) / REPORT


def check_data(config: RunConfig) -> None:
    """What is missing is said before anything is built."""
    for source in (*config.data.train.values(), *config.data.val.values()):
        check_source(source)
    check_columns(config.data, (field for term in config.terms for field in term.between))
