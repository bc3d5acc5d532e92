"""Plugins: Python files from outside that register components of their own, as objectives, encoders and modalities.

They come by `--plugin FILE.py`, or installed under the entry point group `tercet.plugins`; never from inside a recipe,
which is data. A run notes which ones it was made with, and every process that works for it loads the same.
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

GROUP = "tercet.plugins"
RECORD = "plugins.json"  # in a run's folder

_loaded: dict[str, str] = {}  # by name: a file's path, or what an entry point refers to


def load_plugins(files: Iterable[str | Path] = ()) -> None:
    """What is installed as a plugin, then these files; what is loaded already is not loaded again."""
    for entry in entry_points(group=GROUP):
        _load(entry.name, entry.value, entry.load)
    for path in (Path(file).resolve() for file in files):
        if path.suffix != ".py" or not path.is_file():
            raise UserError(f"--plugin {path}: no such Python file; a plugin is a FILE.py")
        _load(path.name, str(path), partial(_run, path))


def _load(name: str, place: str, load: Callable[[], object]) -> None:
    """Whatever is wrong with somebody else's code is one line that says where."""
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
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where pickles look for its classes
    spec.loader.exec_module(module)


def _line(error: Exception) -> str:
    """The file and the line of a plugin at which it went wrong."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    passed = (__file__, "<frozen", str(Path(importlib.util.__file__).parent))
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(passed)]
    return f"{frames[0].filename}, line {frames[0].lineno}" if frames else ""


def note_plugins(folder: Path) -> None:
    """Writes down which plugins a run is made with."""
    if _loaded:
        (folder / RECORD).write_text(json.dumps(_loaded, indent=2) + "\n", encoding="utf-8")


def require_plugins(folder: Path) -> None:
    """Refuses to go on with what was made with plugins that are not loaded."""
    noted = folder / RECORD
    for name, place in json.loads(noted.read_text(encoding="utf-8")).items() if noted.is_file() else ():
        if name not in _loaded:
            mend = f"add --plugin {place}" if name.endswith(".py") else f"install what brings {place}"
            raise UserError(f"{folder} was made with the plugin {name}, which is not loaded; {mend}")


def with_plugins(start: Callable[..., None], *arguments: object) -> tuple[Callable[..., None], tuple[object, ...]]:
    """An initializer of processes and its arguments, among which the plugins come first: what they define can be read
    there once they are loaded."""
    return _start, (Plugins(), start, *arguments)


class Plugins:
    """Sent to another process, it loads there what is loaded here."""

    def __reduce__(self) -> tuple[Callable[..., "Plugins"], tuple[object, ...]]:
        files = tuple(place for name, place in _loaded.items() if name.endswith(".py"))
        return (_again, files) if _loaded else (Plugins, ())


def _again(*files: str) -> Plugins:
    load_plugins(files)
    return Plugins()


def _start(plugins: Plugins, start: Callable[..., None], *arguments: object) -> None:
    start(*arguments)
