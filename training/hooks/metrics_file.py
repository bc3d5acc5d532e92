"""metrics.jsonl: one JSON line for each step and each event. A resumed run deletes the lines after its checkpoint."""

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

from tercet.training.hooks.hook import RunInfo, StepRecord
from tercet.whole_file import whole_file


class MetricsFile:
    """Writes one line for each step, and flushes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: TextIO | None = None

    def start(self, run: RunInfo) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        forget_after(self.path, run.step)
        self._lines = self.path.open("a", encoding="utf-8", buffering=1)

    def step(self, record: StepRecord) -> None:
        # JSON has no NaN and no infinity: they become null.
        numbers = {name: value if math.isfinite(value) else None for name, value in record.flat().items()}
        line = {"step": record.step, "stage": record.stage, **numbers, "time": round(time.time(), 3)}
        print(json.dumps(line, allow_nan=False), file=self._lines)

    def stop(self) -> None:
        if self._lines:
            self._lines.close()


def note_event(path: Path, step: int, event: str, **about: Any) -> None:
    """Adds a line about what happened at a step, which has no numbers of the step itself."""
    line = {"step": step, "event": event, **about, "time": round(time.time(), 3)}
    with path.open("a", encoding="utf-8") as lines:
        print(json.dumps(line, ensure_ascii=False), file=lines)


def losses(path: Path) -> list[tuple[int, float]]:
    """The step and the loss of each step, without losses that are not finite."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
    return [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]


def forget_after(path: Path, step: int) -> None:
    """Deletes the lines of steps after `step`, which the run will repeat, and a last line that is incomplete."""
    if not path.exists():
        return
    with whole_file(path) as draft, path.open(encoding="utf-8") as lines, draft.open("w", encoding="utf-8") as kept:
        kept.writelines(line for line in lines if _is_up_to(step, line))


def _is_up_to(step: int, line: str) -> bool:
    try:
        written: int = json.loads(line)["step"]
    except json.JSONDecodeError:
        return False
    return written <= step and line.endswith("\n")
