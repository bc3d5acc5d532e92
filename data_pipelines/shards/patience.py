"""Retries for a network that fails at times: temporary errors are retried, and the last one becomes one line."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tercet.data_pipelines.shards.address import redacted
from tercet.errors import UserError

URL = re.compile(r"\w+://[^\s'\"]+")
PASSING = (408, 425, 429)  # refusals that may be temporary

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How often to try, and after how many seconds without progress to give up a try."""

    tries: int = 5
    stall: float = 30.0
    pause: float = 1.0  # before the second try; doubled before each one after

    def pauses(self) -> Iterator[float]:
        return (self.pause * 2**step for step in range(self.tries - 1))


class Unreachable(UserError):
    """A URL that failed in all tries."""


class Refused(Unreachable):
    """A URL that does not exist or is forbidden, so that another try would not help."""


def tried(url: str, attempt: Callable[[], Result], patience: Patience) -> Result:
    pauses = patience.pauses()
    while True:
        try:
            return attempt()
        except UserError:
            raise
        except Exception as error:  # every store has exceptions of its own
            refusal = _refusal(error)
            pause = next(pauses, None)
            if refusal:
                raise Refused(f"{redacted(url)} {refusal}; correct the address, or remove it from the data") from None
            if pause is None:
                raise Unreachable(
                    f"{redacted(url)} could not be fetched in {patience.tries} tries: {_why(error, patience)}"
                ) from None
        time.sleep(pause)


def _refusal(error: Exception) -> str:
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 410:
        return "does not exist"
    if isinstance(error, PermissionError) or status in (401, 403):
        return "is not open to us"
    if isinstance(status, int) and 400 <= status < 500 and status not in PASSING:
        return f"is refused with status {status}"
    return ""


def _why(error: Exception, patience: Patience) -> str:
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return f"nothing came for {patience.stall:g} s"
    if status := getattr(error, "status", None):
        return f"the server answers with status {status}"
    text = " ".join(str(error).split())
    return URL.sub(lambda found: redacted(found[0]), text) or type(error).__name__
