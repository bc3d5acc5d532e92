"""What the command line and Python call: train a recipe, examine a run, show the demo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tercet.configs.recipe import load_recipe
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.shards.find import find_shards
from tercet.distributed import World, join, leave
from tercet.errors import UserError
from tercet.eval.examine import Examiner
from tercet.eval.result import Result
from tercet.models.multimodal import build_model
from tercet.training.config import RunConfig
from tercet.training.course import REPORT, Course
from tercet.training.folder import open_folder
from tercet.training.saved import CHECKPOINTS, CONFIG, fill, resume_point


def train(config: RunConfig) -> Path:
    """Runs what the config says, or goes on with it; returns the run's folder."""
    check_data(config)
    with joined() as world, open_folder(config, world) as folder:
        Course(config, folder, world).finish()
    return folder


def demo(out: Path | None = None) -> Path:
    """From nothing to a report: generates the built-in world, trains the recipe `demo` on it and examines it."""
    config = load_recipe("demo", [f"out={out}"] if out else [])
    generate(WorldConfig(), Path(str(config.data.train["train"].source)).parent)
    return train(config) / REPORT


def evaluate_run(folder: Path, tasks: tuple[str, ...] = ()) -> list[Result]:
    """The results of a run's newest checkpoint on its held-out splits; on the tasks of its recipe if none are named."""
    config = load_recipe(str(folder / CONFIG))
    check_data(config)
    with joined() as world:
        saved = resume_point(folder / CHECKPOINTS, world)
        if saved is None:
            raise UserError(f"{folder} holds no checkpoint that verifies; let it train to one first")
        stage = config.stage(saved.progress.stage)
        model = build_model(stage.model, stage.terms, stage.seed)
        fill(model, saved.weights(averaged=True))
        asked = config.eval.model_copy(update={"tasks": tasks or config.eval.tasks})
        return Examiner(config.data, asked, world)(model.to(world.device)).results


@contextmanager
def joined() -> Iterator[World]:
    world = join()
    try:
        yield world
    finally:
        leave()


def check_data(config: RunConfig) -> None:
    """What is missing is said before anything is built."""
    for source in (*config.data.train.values(), *config.data.val.values()):
        find_shards(source.source)
