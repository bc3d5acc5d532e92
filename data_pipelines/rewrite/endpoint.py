"""A language model behind any server with the chat completions of OpenAI.

Failures that may pass are tried again: with the pause that the server names in Retry-After, or with one that doubles.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tercet.data_pipelines.rewrite.model import NoAnswer
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.patience import Patience
from tercet.errors import UserError

PATH = "/chat/completions"
PASSING = (408, 409, 425, 429)  # besides 5xx
OF_THE_PROMPT = (400, 413, 422)  # such as a prompt that is too long; other prompts may be fine
LONGEST_PAUSE = 600.0  # seconds
MOST_BYTES = 2**22  # of an answer


class _Stays(HTTPRedirectHandler):
    """Follows no redirect: the key is for the server that the user named."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = build_opener(_Stays)


class Endpoint:
    """`options`: `model`, `temperature` and what else each request has. Threads may share it."""

    batch = 1

    def __init__(
        self,
        url: str,
        options: Mapping[str, object],
        key: str | None,
        key_env: str,
        patience: Patience,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        base = url.rstrip("/")
        self._url = base if base.endswith(PATH) else base + PATH
        self._options, self._key, self._key_env = dict(options), key, key_env
        self._patience, self._wait = patience, wait
        self.identity = self._options  # not the address: the same model may move
        self.name = redacted(url)

    def complete(self, prompts: Sequence[str]) -> list[str]:
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: str) -> str:
        pauses = self._patience.pauses()
        while True:
            try:
                return _content(self._post({**self._options, "messages": [{"role": "user", "content": prompt}]}))
            except HTTPError as error:
                reason, asked_for = self._refused(error), retry_after(error.headers.get("Retry-After"))
            except TimeoutError:
                reason, asked_for = f"no answer in {self._patience.stall:g} s", None
            except (OSError, HTTPException) as error:
                reason, asked_for = _why(error), None
            pause = next(pauses, None)
            if pause is None:
                raise NoAnswer(reason)
            self._wait(pause if asked_for is None else min(asked_for, LONGEST_PAUSE))

    def _post(self, body: Mapping[str, object]) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = Request(self._url, json.dumps(body).encode(), headers)
        with OPENER.open(request, timeout=self._patience.stall) as answer:
            found: bytes = answer.read(MOST_BYTES)
            if answer.length and len(found) < MOST_BYTES:  # a limited read does not tell that the connection broke
                raise IncompleteRead(found, answer.length)
            return found

    def _refused(self, error: HTTPError) -> str:
        """Why, if another try may help. Otherwise raises."""
        status, said = error.code, _said(error)
        if status in (401, 403):
            held = "is refused" if self._key else "is not set"
            raise UserError(f"{self.name} answers with status {status}: the key in {self._key_env} {held}{said}")
        if status in OF_THE_PROMPT:
            raise NoAnswer(f"refused with status {status}{said}")
        if status not in PASSING and status < 500:
            raise UserError(
                f"{self.name} answers with status {status}{said}; give the base URL, such as http://localhost:8000/v1, "
                "and a model that it has by --model"
            )
        return f"the server answers with status {status}{said}"


def retry_after(header: str | None, now: Callable[[], float] = time.time) -> float | None:
    """The seconds that a server asks for, as a number or as a date."""
    if header is None:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:  # a date
        return _seconds_until(header, now())


def _seconds_until(date: str, now: float) -> float | None:
    try:
        return max(parsedate_to_datetime(date).timestamp() - now, 0.0)
    except (TypeError, ValueError):
        return None


def _content(body: bytes) -> str:
    """The text of an answer; empty if there is none, which no task accepts."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else ""


def _said(error: HTTPError) -> str:
    """The server's own words, as `: model not found`."""
    try:
        answer: Any = json.loads(error.read(10_000))
        said = answer["error"]["message"] if isinstance(answer["error"], dict) else answer["error"]
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return ""
    return f": {' '.join(str(said).split())[:200]}"


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return " ".join(str(reason).split()) or type(reason).__name__
