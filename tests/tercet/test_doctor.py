"""The doctor: versions against ranges, imports that break or die, and the fix for each."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tercet.command import main
from tercet.doctor import Finding, healthy
from tercet.doctor.imports import judged
from tercet.doctor.machine import _open_files, _shared_memory
from tercet.doctor.packages import fitting
from tercet.doctor.probe import PROBED, attempt
from tercet.doctor.show import print_findings

DEVICES = {"name": "devices", "built_for": "13.0", "threads": 2, "cuda": [], "gloo": True, "nccl": True}
ALL_LOAD: list[dict[str, Any]] = [*({"name": name} for name in PROBED), DEVICES]


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_versions_are_compared_with_their_ranges() -> None:
    versions = {"torch": "2.15.0", "torchvision": "0.29.2", "timm": "1.0.31", "deepspeed": "0.19.8+cpu"}

    def installed(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    ranges = ["torch>=2.11,<2.15", "torchvision", "timm>=1.0.31,<1.1", "deepspeed>=0.19.8,<0.20", "rich>=13"]
    findings = fitting(map(Requirement, [*ranges, "ruff; extra == 'dev'"]), installed)
    assert states(findings) == {"torch": "fail", "torchvision": "ok", "timm": "ok", "deepspeed": "ok", "rich": "fail"}
    torch, *_, rich = findings
    assert (torch.found, torch.fix) == ("2.15.0, outside <2.15,>=2.11", "pip install 'torch<2.15,>=2.11'")
    assert (rich.found, rich.fix) == ("not installed", "pip install 'rich>=13'")


def test_an_installation_that_loads_is_healthy() -> None:
    findings = judged(ALL_LOAD, "not used")
    assert healthy(findings)
    assert [finding.name for finding in findings] == [*PROBED, "cpu", "cuda", "gloo", "nccl"]


@pytest.mark.parametrize(
    ("name", "error", "fix"),
    [
        ("torchvision", "RuntimeError: operator torchvision::nms does not exist", "built for the CPU only"),
        ("torchaudio", "OSError: libc10_cuda.so: cannot open shared object file", "built for the CPU only"),
        ("torchaudio", "RuntimeError: PyTorch has a different CUDA version", "newer than the last torchaudio"),
        ("timm", "ImportError: anything else", "pip install --upgrade"),
    ],
)
def test_a_broken_import_comes_with_its_fix(name: str, error: str, fix: str) -> None:
    outcomes = [outcome | ({"error": error} if outcome["name"] == name else {}) for outcome in ALL_LOAD]
    (broken,) = (finding for finding in judged(outcomes, "") if finding.state == "fail")
    assert (broken.name, broken.found) == (name, error)
    assert fix in str(broken.fix)


def test_a_dead_probe_blames_the_package_after_its_last_line() -> None:
    (dead,) = (finding for finding in judged(ALL_LOAD[:3], "the process died with -11") if finding.state == "fail")
    assert (dead.name, dead.found) == (PROBED[3], "the process died with -11")
    without_torch = judged([{"name": "torch", "error": "ImportError: no"}, *ALL_LOAD[1:-1]], "")
    assert [finding.name for finding in without_torch if finding.state == "fail"] == ["torch"]


def test_any_exception_of_an_import_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_on_import.py").write_text("raise OSError('libbroken.so:\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    assert attempt("raises_on_import") == {"name": "raises_on_import", "error": "OSError: libbroken.so:"}
    assert attempt("json") == {"name": "json"}


def test_low_limits_of_the_machine_give_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 4096))
    (few,) = _open_files()
    assert (few.state, few.fix) == ("warn", "ulimit -n 4096")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"total": 64 * 2**20, "free": 0}))
    (small,) = _shared_memory(tmp_path)
    assert small.state == "warn"
    assert "--shm-size" in str(small.fix)
    assert _shared_memory(tmp_path / "nowhere") == []


def test_this_installation_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["healthy"]
    assert {"python", "tercet", "torch", "gloo", "free disk"} <= {finding["name"] for finding in answer["findings"]}


def test_the_printed_list_shows_the_fix_below_each_problem(capsys: pytest.CaptureFixture[str]) -> None:
    torch = Finding("versions", "torch", "fail", "2.15.0", "pip install 'torch[x]<2.15'")
    print_findings([torch, Finding("machine", "free disk", "ok", "9 GiB here")])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "versions",
        "✗  torch             2.15.0",
        "→ pip install 'torch[x]<2.15'",
        "machine",
        "✓  free disk         9 GiB here",
        "some problems must be fixed",
    ]
