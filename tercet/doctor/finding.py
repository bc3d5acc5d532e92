"""One line of a diagnosis."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it stands, what was found, and how to mend it where it does not stand."""

    room: str
    name: str
    state: State
    found: str
    mend: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return asdict(self)


def healthy(findings: Iterable[Finding]) -> bool:
    return all(finding.state != "fail" for finding in findings)
