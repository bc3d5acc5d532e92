"""Checks that the installed versions lie in the ranges of setup.cfg. Reads metadata and imports nothing."""

import sys
from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from tercet.doctor.finding import Finding
from tercet.version import __version__

GROUP = "versions"
OLDEST_PYTHON = (3, 10)

Installed = Callable[[str], str]


def packages() -> list[Finding]:
    try:
        wanted = metadata.requires("tercet") or []
    except metadata.PackageNotFoundError:
        return [_python(), Finding(GROUP, "tercet", "warn", f"{__version__}, not installed", "pip install -e .")]
    return [
        _python(),
        Finding(GROUP, "tercet", "ok", __version__),
        *fitting(map(Requirement, wanted), metadata.version),
    ]


def fitting(wanted: Iterable[Requirement], installed: Installed) -> list[Finding]:
    """One finding for each requirement, except those of extras."""
    return [_fits(requirement, installed) for requirement in wanted if not _is_extra(requirement)]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding(GROUP, "python", "fail", found, "create .venv again with Python 3.10 or newer")
    return Finding(GROUP, "python", "ok", found)


def _is_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})


def _fits(requirement: Requirement, installed: Installed) -> Finding:
    fix = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = installed(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(GROUP, requirement.name, "fail", "not installed", fix)
    # A local label, such as +cpu in 2.13.0+cpu, tells how it was built. The import check finds builds that do not load.
    if Version(found).public not in requirement.specifier:
        return Finding(GROUP, requirement.name, "fail", f"{found}, outside {requirement.specifier}", fix)
    return Finding(GROUP, requirement.name, "ok", found)
