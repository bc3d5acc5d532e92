"""Plugins: Python files that register components, such as objectives, encoders and modalities.

A plugin is loaded by `--plugin FILE.py`, or is installed with an entry point in the group `tercet.plugins`. A recipe
cannot load one, because a recipe is data. A run records its plugins, and all its processes load the same ones.
"""

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from tercet.errors import UserError
from tercet.whole_file import write_json

GROUP = "tercet.plugins"
RECORD = "plugins.json"  # in a run's folder

_loaded: dict[str, str] = {}  # by name: the path of a file, or the target of an entry point


def load_plugins(files: Iterable[str | Path] = ()) -> None:
    """Loads the installed plugins and then these files, each once."""
    for entry in entry_points(group=GROUP):
        _load(entry.name, entry.value, entry.load)
    for path in (Path(file).resolve() for file in files):
        if path.suffix != ".py" or not path.is_file():
            raise UserError(f"--plugin {path}: no such Python file; a plugin is a FILE.py")
        _load(path.name, str(path), partial(_run, path))


def _load(name: str, place: str, load: Callable[[], object]) -> None:
    """Turns any error of a plugin into one line that names its file and line."""
    if _loaded.get(name, place) != place:
        raise UserError(f"two plugins are named {name}: {_loaded[name]} and {place}; rename one of them")
    if name not in _loaded:
        try:
            load()
        except Exception as error:
            cause = error.msg if isinstance(error, SyntaxError) else str(error)
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            raise UserError(f"plugin {_line(error) or place}: {kind}{' '.join(cause.split())}") from error
        _loaded[name] = place


def _run(path: Path) -> None:
    name = f"tercet_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # pickle looks up its classes here
    spec.loader.exec_module(module)


def _line(error: Exception) -> str:
    """The file and the line of the plugin that raised the error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    passed = (__file__, "<frozen", str(Path(importlib.util.__file__).parent))
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(passed)]
    return f"{frames[0].filename}, line {frames[0].lineno}" if frames else ""


def note_plugins(folder: Path) -> None:
    """Records the loaded plugins in the run's folder."""
    if _loaded:
        write_json(folder / RECORD, _loaded)


def require_plugins(folder: Path) -> None:
    """Refuses a folder whose plugins are not loaded."""
    noted = folder / RECORD
    for name, place in json.loads(noted.read_text(encoding="utf-8")).items() if noted.is_file() else ():
        if name not in _loaded:
            fix = f"add --plugin {place}" if name.endswith(".py") else f"install the package that provides {place}"
            raise UserError(f"{folder} was made with the plugin {name}, which is not loaded; {fix}")


def with_plugins(start: Callable[..., None], *arguments: object) -> tuple[Callable[..., None], tuple[object, ...]]:
    """An initializer for child processes, and its arguments. The plugins come first: other arguments may be pickles of
    what they define."""
    return _start, (Plugins(), start, *arguments)


class Plugins:
    """Loads the same plugins in the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[..., "Plugins"], tuple[object, ...]]:
        files = tuple(place for name, place in _loaded.items() if name.endswith(".py"))
        return (_again, files) if _loaded else (Plugins, ())


def _again(*files: str) -> Plugins:
    load_plugins(files)
    return Plugins()


def _start(plugins: Plugins, start: Callable[..., None], *arguments: object) -> None:
    start(*arguments)
