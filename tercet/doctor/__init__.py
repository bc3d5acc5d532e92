"""What the doctor looks at: do the versions fit together, does everything load, and is the machine fit for a run."""

from tercet.doctor.finding import Finding, healthy
from tercet.doctor.imports import imports
from tercet.doctor.machine import machine
from tercet.doctor.packages import packages

__all__ = ["Finding", "diagnose", "healthy"]


def diagnose() -> list[Finding]:
    return [*packages(), *imports(), *machine()]
