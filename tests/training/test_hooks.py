"""Hooks: what each writes, what a resumed run keeps, and that none of them stops a run."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from tercet.errors import UserError
from tercet.training.hooks import console as console_module
from tercet.training.hooks import tensorboard, wandb
from tercet.training.hooks.config import LogConfig, Logger
from tercet.training.hooks.console import Console, clock, plain
from tercet.training.hooks.hook import RunInfo, StepRecord
from tercet.training.hooks.hooks import LOGGERS, Hooks, open_hooks
from tercet.training.hooks.metrics_file import MetricsFile

RECORD = StepRecord(
    step=1, steps=300, samples=256, loss=3.5, losses={"image-text": 1.25, "audio-text": 2.25},
    scales={"image-text": 20.0, "audio-text": 21.0}, biases={"image-text": -10.0}, lr=2e-3, grad_norm=1.5,
    samples_per_s=493.6, seconds_left=150.4, skipped=2, epoch=0, analysis={"image-text/alignment": 0.75},
    selection={"overlap": 0.5},
)  # fmt: skip
FLAT = {
    "loss": 3.5, "loss/image-text": 1.25, "loss/audio-text": 2.25, "scale/image-text": 20.0, "scale/audio-text": 21.0,
    "bias/image-text": -10.0, "analysis/image-text/alignment": 0.75,
    "selection/overlap": 0.5, "lr": 2e-3, "grad_norm": 1.5,
    "samples_per_s": 493.6, "skipped": 2, "samples": 256, "epoch": 0,
}  # fmt: skip


def logged(folder: Path, steps: range) -> list[dict[str, object]]:
    """metrics.jsonl after these steps, the first of which follows the step that the run resumes from."""
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.start(RunInfo("run", folder, steps=9, step=steps.start - 1))
    for step in steps:
        metrics.step(replace(RECORD, step=step))
    metrics.stop()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_line_of_metrics_holds_flat_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1234.56789)
    (line,) = logged(tmp_path, range(1, 2))
    assert line == {"step": 1, "stage": "", **FLAT, "time": 1234.568}


def test_a_resumed_run_drops_the_metrics_of_the_steps_that_it_repeats(tmp_path: Path) -> None:
    logged(tmp_path, range(1, 6))
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 6, "lo')  # the line that a kill cut short
    assert [line["step"] for line in logged(tmp_path, range(4, 8))] == [1, 2, 3, 4, 5, 6, 7]
    assert [line["step"] for line in logged(tmp_path, range(1, 3))] == [1, 2]


def test_nan_and_infinity_are_written_as_null(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.start(RunInfo("run", tmp_path, steps=1))
    metrics.step(replace(RECORD, loss=float("nan"), grad_norm=float("inf")))
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (line["loss"], line["grad_norm"], line["lr"]) == (None, None, 2e-3)


def test_drawn_samples_are_reported_beside_trained_samples() -> None:
    sources = {"photos": 1000, "scans": 280}
    selecting = replace(RECORD, drawn=1280, drawn_per_s=2468.0, sources=sources)
    assert selecting.flat() == FLAT | {"drawn": 1280, "drawn/photos": 1000, "drawn/scans": 280}
    assert "494 samples/s of 2,468 drawn" in plain(selecting)
    assert "drawn" not in plain(replace(RECORD, drawn=256, drawn_per_s=493.6))


def test_the_console_prints_a_line_every_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PAUSE", 0.0)
    out = io.StringIO()
    console = Console(10, out)
    console.start(RunInfo("demo", Path("runs/demo"), steps=25, step=0))
    for step in range(1, 26):
        console.step(replace(RECORD, step=step, steps=25))
    console.stop()
    first, *lines = out.getvalue().splitlines()
    assert first == "demo → runs/demo: 25 steps"
    assert [re.match(r"step +(\d+)/25  ", line).group(1) for line in lines] == ["1", "10", "20", "25"]  # type: ignore[union-attr]
    assert lines[1] == (
        "step 10/25  loss 3.5000 (image-text 1.250 ×20.0, audio-text 2.250 ×21.0)  lr 2.00e-03  grad 1.50  "
        "494 samples/s  skipped 2  2:30 left"
    )
    assert "samples/s" not in lines[0]  # the first step waits for the first samples
    assert "left" not in lines[0]
    assert "grad" not in plain(replace(RECORD, grad_norm=None))


def test_fast_steps_give_a_line_every_few_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    out = io.StringIO()
    console = Console(1, out)
    for step in range(1, 101):
        now = 100.0 + step / 10
        console.step(replace(RECORD, step=step, steps=100))
    assert re.findall(r"step +(\d+)/100", out.getvalue()) == ["1", "51", "100"]


def test_a_terminal_shows_a_live_panel_of_the_last_step() -> None:
    """A real pseudo terminal; what remains on it after the run is the last panel, once."""
    program = (
        "from pathlib import Path; from dataclasses import replace\n"
        "from tercet.training.hooks.console import Console; from tercet.training.hooks.hook import *\n"
        f"console = Console(10); record = {RECORD!r}\n"
        "console.start(RunInfo('demo', Path('runs/demo'), 300))\n"
        "for step in range(1, 6): console.step(replace(record, step=step, loss=float(step)))\n"
        "console.stop()"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm-256color"}
    with subprocess.Popen([sys.executable, "-c", program], stdout=theirs, env=environment) as process:
        os.close(theirs)
        seen = b"".join(read_all(ours)).decode()
    assert process.returncode == 0
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.rpartition("\x1b[2K")[2])
    for shown in ("5/300", "2:30 left", "loss 5.0000", "lr 2.00e-03", "grad 1.50", "494 samples/s", "skipped 2"):
        assert screen.count(shown) == 1
    assert "image-text 1.250 ×20.0   audio-text 2.250 ×21.0" in screen


def test_a_run_that_has_taken_all_its_steps_says_so_and_leaves_no_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    out = io.StringIO()
    console = Console(10, out)
    console.start(RunInfo("demo", Path("runs/demo"), steps=9, step=9))
    console.stop()
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue().rpartition("\x1b[2K")[2])
    assert "9 steps, all of them done" in out.getvalue()
    assert drawn.strip() == ""


def read_all(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(terminal, 4096)
        except OSError:  # the other end is closed
            return


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (3599.7, "1:00:00"), (7325, "2:02:05")])
def test_durations_are_written_as_on_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


class Raises:
    """A logger whose disk is full from some step on."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def start(self, run: RunInfo) -> None: ...

    def step(self, record: StepRecord) -> None:
        self.calls += 1
        if record.step >= self.at:
            raise OSError("No space left on device")

    def stop(self) -> None:
        raise AssertionError("a hook that failed is called again")


def test_a_hook_that_raises_is_removed_with_one_warning(tmp_path: Path) -> None:
    broken, metrics = Raises(at=3), MetricsFile(tmp_path / "metrics.jsonl")
    all_hooks = Hooks([broken, metrics])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        all_hooks.start(RunInfo("run", tmp_path, steps=5))
        for step in range(1, 6):
            all_hooks.step(replace(RECORD, step=step))
        all_hooks.stop()
    (warning,) = warned
    assert re.match("Raises failed and logs no more: OSError.*No space left", str(warning.message))
    assert broken.calls == 3
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(("name", "module"), [("tensorboard", tensorboard), ("wandb", wandb)])
def test_a_logger_that_is_not_installed_is_an_error_of_one_line(
    name: str, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"log.to: {name} is not installed; pip install 'tercet\[{name}\]'"):
        open_hooks(LogConfig(to=(name,)), Path("runs"))


def test_every_logger_of_the_config_exists() -> None:
    assert set(LOGGERS) == set(get_args(Logger))


def test_tensorboard_reads_back_the_logged_numbers(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = tensorboard.TensorBoard(every=2)
        logger.start(RunInfo("run", tmp_path, steps=5))
        for step in range(1, 6):
            logger.step(replace(RECORD, step=step, steps=5, loss=float(step)))
        logger.stop()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 2.0), (4, 4.0), (5, 5.0)]
    assert set(events.Tags()["scalars"]) == set(FLAT)
