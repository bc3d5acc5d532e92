"""Any MODEL on any data, or a run on what it held out. Needs no engine."""

from pathlib import Path

from tercet.configs.base import build
from tercet.configs.recipe import load_recipe
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.open import check_source
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.examine import Examiner
from tercet.eval.result import Result
from tercet.training.config import RunConfig
from tercet.training.pretrained import load_model, pretrained
from tercet.training.saved import CHECKPOINTS, CONFIG


def evaluate_model(spec: str, tasks: tuple[str, ...] = (), data: str | None = None) -> list[Result]:
    """The results on `data`, or else on the run's own held-out splits; a run's tasks are those of its recipe."""
    run = load_recipe(str(Path(spec) / CONFIG)) if (Path(spec) / CHECKPOINTS).is_dir() else None
    looked_at = _data(spec, run, data)
    for split in looked_at.val.values():
        check_source(split)
    asked = run.eval if run else EvalConfig()
    with joined() as world:
        model = load_model(spec).to(world.device)
        return Examiner(looked_at, asked.model_copy(update={"tasks": tasks or asked.tasks}), world)(model).results


def _data(spec: str, run: RunConfig | None, data: str | None) -> DataConfig:
    """Read as the run reads its own. Nothing is trained here, so `train` names what is there anyway."""
    if data is not None:
        settings = run.data.model_dump(mode="json") if run else {}
        return build(DataConfig, {**settings, "train": data, "val": data}, lambda key: "--data")
    if run is None:
        pretrained(spec)  # which says so where there is no such model
        raise UserError(f"{spec} holds out no data of its own; say on what to evaluate it: --data D")
    if not run.data.val:
        raise UserError(f"the run {spec} held out no data; say on what to evaluate it: --data D")
    return run.data
