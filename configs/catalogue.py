"""Finds recipes: those of tercet by name, files, and those in the folder of a run."""

from pathlib import Path

from tercet.errors import UserError, did_you_mean

RECIPES = Path(__file__).resolve().parent / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """The file of a recipe, from its name, its path, or the folder of a run."""
    if name_or_path in recipe_names():
        return RECIPES / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    found = path / "config.yaml" if path.is_dir() else path
    if found.is_file():
        return found
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"{path} is neither a recipe file nor the folder of a run; `tercet recipes ls` lists recipes")
    raise UserError(f"unknown recipe `{name_or_path}`; {did_you_mean(name_or_path, recipe_names())}")


def summary(name_or_path: str) -> str:
    """The comment in the first line of a recipe, which describes it."""
    first = recipe_path(name_or_path).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
