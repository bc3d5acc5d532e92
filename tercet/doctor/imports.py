"""Checks that every package loads, and which devices torch sees. Runs in another process, which may crash."""

import json
import subprocess
import sys
from typing import Any

from tercet.doctor.finding import Finding
from tercet.doctor.probe import PROBED
from tercet.plural import number_of

GROUP = "imports"
PATIENCE = 180  # seconds; the first import after an installation compiles thousands of files

CPU_ONLY = (
    "this torch is built for the CPU only and its companions are not: "
    "pip install --force-reinstall 'torch>=2.11,<2.15' torchvision 'torchaudio>=2.11,<2.12'"
)
# A part of the message, and the fix.
KNOWN = (
    ("torchvision::nms does not exist", CPU_ONLY),
    ("libc10_cuda", CPU_ONLY),
    ("different CUDA version", "torch is newer than the last torchaudio: pip install 'torch>=2.11,<2.15' torchvision"),
    ("libsndfile", "pip install --force-reinstall soundfile"),
    ("GLIBCXX", "the system's C++ library is too old for this wheel: use a newer system or container"),
)


def imports() -> list[Finding]:
    command = [sys.executable, "-W", "ignore", "-m", "tercet.doctor.probe"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as late:
        return judged(_lines(late.stdout or b""), f"no answer in {PATIENCE} s")
    return judged(_lines(probe.stdout), f"the process died with {probe.returncode}")


def _lines(text: str | bytes) -> list[dict[str, Any]]:
    decoded = text.decode() if isinstance(text, bytes) else text
    return [json.loads(line) for line in decoded.splitlines()]


def judged(outcomes: list[dict[str, Any]], end: str) -> list[Finding]:
    """A finding for each package and each device. The process ended at the first package without an outcome."""
    known = {outcome["name"]: outcome for outcome in outcomes}
    silent = [name for name in (*PROBED, "devices") if name not in known]
    findings = [_loaded(known[name]) for name in PROBED if name in known]
    if "devices" in known:
        findings += _devices(known["devices"])
    elif "error" not in known.get("torch", {}):
        findings.append(Finding(GROUP, silent[0], "fail", end, f"python -c 'import {silent[0]}' shows more"))
    return findings


def _loaded(outcome: dict[str, Any]) -> Finding:
    name, error = outcome["name"], outcome.get("error")
    if error is None:
        return Finding(GROUP, name, "ok", "loads")
    fix = next((fix for part, fix in KNOWN if part in error), "pip install --upgrade --force-reinstall tercet")
    return Finding(GROUP, name, "fail", error, fix)


def _devices(seen: dict[str, Any]) -> list[Finding]:
    cuda = [Finding("devices", f"cuda:{i}", "ok", name) for i, name in enumerate(seen["cuda"])]
    build = f"torch is built for CUDA {seen['built_for']}" if seen["built_for"] else "torch is built for the CPU only"
    none = Finding("devices", "cuda", "ok", f"no GPU, so the CPU trains; {build}")
    gloo = Finding("devices", "gloo", *_available(seen["gloo"], "several processes on CPUs need it: reinstall torch"))
    nccl = Finding("devices", "nccl", *_available(seen["nccl"], "several GPUs need it: reinstall torch", bool(cuda)))
    return [Finding("devices", "cpu", "ok", number_of(seen["threads"], "thread")), *(cuda or [none]), gloo, nccl]


def _available(there: bool, fix: str, needed: bool = True) -> tuple[Any, str, str | None]:
    if there:
        return "ok", "available", None
    return ("fail", "missing", fix) if needed else ("ok", "missing, and not needed without a GPU", None)
