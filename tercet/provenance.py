"""The versions, machine and commit behind a number or a run. Imports no torch."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from tercet.version import __version__

VERSIONED = (
    "torch", "torchvision", "torchaudio", "open_clip_torch", "timm", "webdataset", "deepspeed", "pillow", "numpy",
)  # fmt: skip


def versions() -> dict[str, str]:
    installed = {name: metadata.version(name) for name in VERSIONED}
    return {"tercet": __version__, "python": platform.python_version(), **installed}


def machine() -> str:
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}"


def processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def commit() -> str | None:
    """The commit of the checkout, marked if files differ from it. None in an installed copy."""
    folder = str(Path(__file__).resolve().parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def facts() -> dict[str, str]:
    """All of these, for reports."""
    return {"commit": commit() or "not in a checkout", "machine": machine(), **versions()}
