"""Do the installed versions lie in the ranges of setup.cfg? Metadata is read; nothing is imported."""

import sys
from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from tercet.doctor.finding import Finding
from tercet.version import __version__

ROOM = "versions"
OLDEST_PYTHON = (3, 10)

Installed = Callable[[str], str]


def packages() -> list[Finding]:
    try:
        wanted = metadata.requires("tercet") or []
    except metadata.PackageNotFoundError:
        return [_python(), Finding(ROOM, "tercet", "warn", f"{__version__}, not installed", "pip install -e .")]
    return [_python(), Finding(ROOM, "tercet", "ok", __version__), *fitting(map(Requirement, wanted), metadata.version)]


def fitting(wanted: Iterable[Requirement], installed: Installed) -> list[Finding]:
    """One finding for each requirement of the core; extras are asked for by whoever wants them."""
    return [_fits(requirement, installed) for requirement in wanted if not _is_extra(requirement)]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding(ROOM, "python", "fail", found, "make .venv again with Python 3.10 or newer")
    return Finding(ROOM, "python", "ok", found)


def _is_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})


def _fits(requirement: Requirement, installed: Installed) -> Finding:
    mend = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = installed(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(ROOM, requirement.name, "fail", "not installed", mend)
    # A local label, as in 2.13.0+cpu, says how it was built: whether it loads is for the imports to say.
    if Version(found).public not in requirement.specifier:
        return Finding(ROOM, requirement.name, "fail", f"{found}, outside {requirement.specifier}", mend)
    return Finding(ROOM, requirement.name, "ok", found)
