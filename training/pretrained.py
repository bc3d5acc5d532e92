"""Opens a MODEL, as commands and recipes name it: a run, an exported folder, or a model of another library.

Needs no engine.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tercet.configs.base import build
from tercet.distributed import World
from tercet.errors import UserError
from tercet.main_process import is_main_process
from tercet.models.concatenated import concatenated
from tercet.models.encoders.hf.hub import fetched
from tercet.models.interop.folder import WEIGHTS, pretrained_folder
from tercet.models.interop.pretrained import Pretrained, described, load_towers
from tercet.models.interop.unused_weights import unused_weights
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.models.tuning.plain import merged
from tercet.training.checkpoint_reader import CHECKPOINTS, CONFIG, resume_point
from tercet.training.recipe import load_recipe

TOGETHER = "+"  # between the names of several models
KNOWN = "a run, an exported folder, open_clip:NAME/TAG, open_clip:NAME/FILE, laion_clap:FILE or hf:FOLDER"


def models_of(spec: str) -> list[str]:
    """The models that MODEL names. `A+B` are two, unless there is a file or folder of this name."""
    if any(path and Path(path).exists() for path in (spec, spec.partition(":")[2], spec.partition("/")[2])):
        return [spec]
    names = spec.split(TOGETHER)
    if len(names) > 1 and "" in names:
        raise UserError(f"`{spec}`: a model is missing beside a {TOGETHER}; write A{TOGETHER}B")
    return names


def pretrained(spec: str) -> Pretrained:
    """The architecture of MODEL, and a function that loads its weights."""
    names = models_of(spec)
    if len(names) > 1:
        raise UserError(
            f"`{spec}` names {len(names)} models; name one: only eval, compare, embed and search concatenate several"
        )
    family, _, name = spec.partition(":")
    if family == "open_clip":
        from tercet.models.interop.open_clip import pretrained_open_clip

        return pretrained_open_clip(spec)
    if family == "hf" and name:
        with fetched(spec, name, "it"):
            from tercet.models.interop.transformers import pretrained_transformers

            return pretrained_transformers(name)
    if family == "laion_clap":
        with fetched(spec, "", "it"):
            from tercet.models.interop.laion_clap import pretrained_laion_clap

            return pretrained_laion_clap(spec)
    path = Path(spec)
    if (path / CHECKPOINTS).is_dir():
        return _run(path)
    if (path / WEIGHTS).is_file() and not (path / "config.json").is_file():
        return pretrained_folder(path)
    if path.is_file():
        from tercet.models.interop.open_clip_train import pretrained_bare

        return pretrained_bare(path)
    raise UserError(_unknown(spec, path))


def load_model(spec: str) -> Multimodal:
    """Loads MODEL, in evaluation mode. Several become one, with the vectors of all."""
    names = models_of(spec)
    if len(names) > 1:
        return concatenated([(name, load_model(name)) for name in names])
    found = pretrained(spec)
    if not found.model:
        raise UserError(f"{spec} holds weights without their architecture; name it: open_clip:NAME/{spec}")
    config = build(SpaceConfig, {"model": found.model, **found.terms}, lambda key: spec)
    model = build_model(config.model, config.terms, seed=0)
    load_weights(model, found.weights(), spec)
    return model.eval()


def load_weights(model: Multimodal, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into the model, and logs those that the model has no place for."""
    load_towers(model, weights, source)
    unused = unused_weights(model, weights)
    if unused and is_main_process():
        print(
            f"tercet: {source}: not used, because the model has no place for it: {', '.join(unused)}", file=sys.stderr
        )


def _run(folder: Path) -> Pretrained:
    """A run's newest valid checkpoint: its averaged weights if the run kept them, else its weights."""
    saved = resume_point(folder / CHECKPOINTS, World())
    if saved is None:
        raise UserError(f"{folder} holds no valid checkpoint; train the run until it writes one")
    stage = load_recipe(str(folder / CONFIG)).stage(saved.progress.stage)

    def weights() -> dict[str, Tensor]:
        return merged(saved.weights(averaged=True), stage.model)

    return described(str(folder), stage, weights)


def _unknown(spec: str, path: Path) -> str:
    if (path / "config.json").is_file():
        return f"{spec} is a folder of transformers; write hf:{spec}"
    if path.is_dir():
        return f"{spec} holds neither the checkpoints of a run nor an exported {WEIGHTS}; a model is {KNOWN}"
    return f"there is no model `{spec}`: a model is {KNOWN}"
