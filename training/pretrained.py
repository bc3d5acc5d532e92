"""Opens a MODEL, as commands and recipes name it: a run, an exported folder, or a model of another library.

Needs no engine.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tercet.configs.base import build
from tercet.errors import UserError
from tercet.main_process import is_main_process
from tercet.models.concatenated import concatenated
from tercet.models.encoder_names import OPEN_CLIP_CONFIG
from tercet.models.encoders.hf.hub import fetched
from tercet.models.export.onnx.load import is_onnx, load_onnx
from tercet.models.interop.folder import WEIGHTS, pretrained_folder
from tercet.models.interop.pretrained import Pretrained, described, load_towers
from tercet.models.interop.unused_weights import unused_weights
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.models.tuning.plain import merged
from tercet.training.checkpoints.by_name import checkpoint_or_newest, run_and_checkpoint
from tercet.training.checkpoints.reader import CHECKPOINTS, CONFIG, MEMORY
from tercet.training.memory.config import EMA
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


def pretrained(spec: str, averaged: bool = True) -> Pretrained:
    """The architecture of MODEL, and a function that loads its weights.

    `averaged`: of a run that kept averages of its weights, takes these.
    """
    names = models_of(spec)
    if len(names) > 1:
        raise UserError(
            f"`{spec}` names {len(names)} models; name one: only eval, compare, embed and search concatenate several"
        )
    family, _, name = spec.partition(":")
    path = Path(spec)
    if not averaged and not (run_and_checkpoint(spec)[0] / CHECKPOINTS).is_dir():
        raise UserError(f"{spec}: only a run keeps weights beside their averages; do not ask for other weights")
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
    run, checkpoint = run_and_checkpoint(spec)
    if (run / CHECKPOINTS).is_dir():
        return _run(run, checkpoint, averaged)
    if (path / OPEN_CLIP_CONFIG).is_file():
        from tercet.models.interop.open_clip import pretrained_local

        return pretrained_local(path)
    if (path / WEIGHTS).is_file() and not (path / "config.json").is_file():
        return pretrained_folder(path)
    if is_onnx(path):
        raise UserError(
            f"{spec} holds ONNX graphs, which can only be evaluated; name data to evaluate, or the model "
            "that was exported"
        )
    if path.is_file():
        from tercet.models.interop.open_clip_train import pretrained_bare

        return pretrained_bare(path)
    raise UserError(_unknown(spec, path))


def load_model(spec: str) -> Multimodal:
    """Loads MODEL, in evaluation mode. Several become one, with the vectors of all."""
    names = models_of(spec)
    if len(names) > 1:
        return concatenated([(name, load_model(name)) for name in names])
    return load_onnx(Path(spec)) if is_onnx(Path(spec)) else open_model(spec)[0]


def open_model(spec: str, averaged: bool = True) -> tuple[Multimodal, SpaceConfig]:
    """Loads one MODEL, in evaluation mode, with its config."""
    found = pretrained(spec, averaged)
    config = _space(found)
    model = build_model(config.model, config.terms, seed=0)
    load_weights(model, found.weights(), spec)
    return model.eval(), config


def space_of(spec: str) -> SpaceConfig:
    """The config of MODEL, without reading its weights."""
    return _space(pretrained(spec))


def _space(found: Pretrained) -> SpaceConfig:
    spec = found.source
    if not found.model:
        raise UserError(f"{spec} holds weights without their architecture; name it: open_clip:NAME/{spec}")
    return build(SpaceConfig, {"model": found.model, **found.terms}, lambda key: spec)


def load_weights(model: Multimodal, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into the model, and logs those that the model has no place for."""
    load_towers(model, weights, source)
    unused = unused_weights(model, weights)
    if unused and is_main_process():
        print(
            f"tercet: {source}: not used, because the model has no place for it: {', '.join(unused)}", file=sys.stderr
        )


def _run(folder: Path, checkpoint: str, averaged: bool) -> Pretrained:
    """A run's newest valid checkpoint, or the one of this name: if `averaged` and the run kept averages, these."""
    saved = checkpoint_or_newest(folder, checkpoint)
    if saved is None:
        raise UserError(f"{folder} holds no valid checkpoint; train the run until it writes one")
    stage = load_recipe(str(folder / CONFIG)).stage(saved.progress.stage)
    if not averaged and not saved.names(f"{MEMORY}/{EMA}/"):
        raise UserError(f"{folder} kept no averages of its weights, so there is no choice; do not ask for one")

    def weights() -> dict[str, Tensor]:
        return merged(saved.weights(averaged), stage.model)

    return described(str(folder), stage, weights)


def _unknown(spec: str, path: Path) -> str:
    if (path / "config.json").is_file():
        return f"{spec} is a folder of transformers; write hf:{spec}"
    if path.is_dir():
        return f"{spec} holds neither the checkpoints of a run nor an exported {WEIGHTS}; a model is {KNOWN}"
    return f"there is no model `{spec}`: a model is {KNOWN}"
