"""`tercet.train`: runs a recipe from Python, and returns the run."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet.api.results import Results
from tercet.configs.layers import Layer, nested
from tercet.errors import UserError
from tercet.eval.result import from_json
from tercet.page.write import environment
from tercet.plugins import load_plugins
from tercet.training.recipe import layered

if TYPE_CHECKING:
    from tercet.api.model import Model

RESULTS, REPORT = "eval.json", "report.html"


class Run:
    """The folder of a run: its results, its report and its model. `tercet.load(run)` works as well."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @property
    def results(self) -> Results:
        """The results at the end of the run."""
        written = self.folder / RESULTS
        if not written.is_file():
            raise UserError(f"{self.folder} has no results: the run has not ended, or has no validation data")
        tasks = json.loads(written.read_text(encoding="utf-8"))
        return Results(from_json(tasks), str(self.folder))

    @property
    def report(self) -> Path:
        return self.folder / REPORT

    def load(self) -> "Model":
        from tercet.api.model import load

        return load(self.folder)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"run in {self.folder}" + (f"\n{self.results}" if (self.folder / RESULTS).is_file() else "")

    def _repr_html_(self) -> str:
        shown = self.results._repr_html_() if (self.folder / RESULTS).is_file() else ""
        report = str(self.report) if self.report.is_file() else ""
        return environment("tercet.api", {}).get_template("run.html").render(folder=self.folder, report=report) + shown


def train(
    recipe: str | os.PathLike[str],
    *,
    data: Any = None,
    init: str | os.PathLike[str] | None = None,
    epochs: float | None = None,
    out: str | os.PathLike[str] | None = None,
    plugins: str | Path | Iterable[str | Path] = (),
    **settings: Any,
) -> Run:
    """Runs a recipe. The same call resumes the run.

    Settings are keys of the recipe: `batch_size=64`, nested `optimizer={"lr": 1e-4}`, or dotted
    `**{"optimizer.lr": 1e-4}`. Ctrl-C ends the run after a step, with a checkpoint, and raises `RunStopped`.
    """
    from tercet.training.run import train as run  # the only function that needs an engine

    load_plugins([plugins] if isinstance(plugins, str | Path) else plugins)
    named = {"data": data, "init": init, "epochs": epochs, "out": out}
    given = {key: value for key, value in named.items() if value is not None} | settings
    return Run(run(layered(os.fspath(recipe), [_layer(key, value) for key, value in given.items()])))


def _layer(key: str, value: Any) -> Layer:
    """The setting as a layer of a recipe."""
    return Layer("tercet.train", nested(key, json.loads(json.dumps(value, default=_plain))))


def _plain(value: object) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise UserError(f"{value!r} cannot be part of a recipe; give numbers, text, lists or mappings")
