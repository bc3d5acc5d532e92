"""One line of a diagnosis."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What was checked, its state, what was found, and how to fix it if it is not ok."""

    group: str
    name: str
    state: State
    found: str
    fix: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return asdict(self)


def healthy(findings: Iterable[Finding]) -> bool:
    return all(finding.state != "fail" for finding in findings)
