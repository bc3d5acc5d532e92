"""Where recipes are found: by the name they come along under, as any file, or in the folder of a run."""

from pathlib import Path

from tercet.errors import UserError, did_you_mean

RECIPES = Path(__file__).resolve().parent / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """A recipe by the name it is listed under, any YAML file, or the folder of a run."""
    if name_or_path in recipe_names():
        return RECIPES / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    found = path / "config.yaml" if path.is_dir() else path
    if found.is_file():
        return found
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"{path}: no such recipe file, and no folder of a run")
    raise UserError(f"unknown recipe `{name_or_path}`; {did_you_mean(name_or_path, recipe_names())}")


def summary(name_or_path: str) -> str:
    """The one line that a recipe says of itself: the comment it starts with."""
    first = recipe_path(name_or_path).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
