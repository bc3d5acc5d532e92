"""Reads and writes recipes. A recipe is one YAML file that describes a complete run; it may extend another one."""

from collections.abc import Sequence
from pathlib import Path

from tercet.configs.base import build
from tercet.configs.catalogue import recipe_path
from tercet.configs.layers import Layer, parse_override, written_in
from tercet.configs.yaml_text import read_yaml, write_yaml
from tercet.errors import UserError
from tercet.plugins import require_plugins
from tercet.training.config import RunConfig
from tercet.training.layering import RECIPE


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Loads a recipe on top of those that it extends, with the overrides on top of it."""
    return layered(name_or_path, [parse_override(text) for text in overrides])


def layered(name_or_path: str, above: Sequence[Layer]) -> RunConfig:
    path = recipe_path(name_or_path)
    require_plugins(path.parent)
    layers = [*file_layers(path), *above]
    return build(RunConfig, RECIPE.stack(layers), lambda key: written_in(layers, key) or path.name)


def file_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """The layers of a recipe: the files that it extends, lowest first, then the file itself."""
    path = path.resolve()
    if path in seen:
        raise UserError(f"{path.name}: `extends` forms a cycle: " + " → ".join(p.name for p in (*seen, path)))
    values = read_yaml(path.read_text(encoding="utf-8"), path.name)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path.name}: a recipe is a mapping of keys to values, as `batch_size: 256`")
    parent = values.pop("extends", None)
    below = file_layers(_parent(str(parent), path), (*seen, path)) if parent else []
    # A recipe without a `name` is named after its own file, not after the one that it extends.
    return [*below, Layer(path.name, {"name": path.stem} | values)]


def _parent(name: str, child: Path) -> Path:
    try:
        beside = child.parent / name
        return beside if beside.is_file() else recipe_path(name)
    except UserError as error:
        raise UserError(f"{child.name}: `extends: {name}`: {error}") from None


def dump(config: RunConfig) -> str:
    """The complete config as YAML. Loading it gives an equal config."""
    return write_yaml(config.model_dump(mode="json"))
