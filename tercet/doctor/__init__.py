"""Checks of an installation: versions that fit together, packages that load, a machine that can train."""

from tercet.doctor.finding import Finding, healthy
from tercet.doctor.imports import imports
from tercet.doctor.machine import machine
from tercet.doctor.packages import packages

__all__ = ["Finding", "diagnose", "healthy"]


def diagnose() -> list[Finding]:
    return [*packages(), *imports(), *machine()]
