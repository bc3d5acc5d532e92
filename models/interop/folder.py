"""A model as a folder: `config.yaml` describes the model, `model.safetensors` has its weights."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from tercet.configs.base import build
from tercet.configs.yaml_text import read_yaml, write_yaml
from tercet.errors import UserError
from tercet.models.interop.pretrained import Pretrained, described
from tercet.models.space import SpaceConfig

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"


def export_folder(model: nn.Module, config: SpaceConfig, folder: Path) -> Path:
    """Writes a model and its config. Any `SpaceConfig` works, including that of a whole run."""
    folder.mkdir(parents=True, exist_ok=True)
    written = config.model_dump(mode="json")
    kept = {key: written[key] for key in SpaceConfig.model_fields if key in written and key != "init"}
    (folder / CONFIG).write_text(write_yaml(kept), encoding="utf-8")
    weights = {name: value.detach().to("cpu").contiguous().clone() for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    return folder


def pretrained_folder(folder: Path) -> Pretrained:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"{folder}: {CONFIG}, which describes the model of {WEIGHTS}, is missing; export the model again"
        )
    values = read_yaml(path.read_text(encoding="utf-8"), str(path))
    config = build(SpaceConfig, values, lambda key: str(path))
    return described(str(folder), config, lambda: load_file(folder / WEIGHTS))
