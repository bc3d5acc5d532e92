"""Answers that are finished, on disk: a killed command resumes with the others, and no answer is paid for twice.

A line for each answer, under the hash of what decides it. Only the place of each line is in memory.
"""

import fcntl
import json
import os
from pathlib import Path
from threading import Lock

from tercet.data_pipelines.captions.rules.wrong import WrongCaption
from tercet.errors import UserError


class AnswerCache:
    """Threads may share it. A second process that opens it is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path} is in use by another process; wait for it, or choose another --out") from None
        self._lock = Lock()
        self._place: dict[str, int] = {}
        self._read()

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, hash: str) -> bool:
        return hash in self._place

    def add(self, hash: str, captions: list[WrongCaption] | None) -> None:
        """`captions`: None for an answer that cannot be used."""
        listed = None if captions is None else [[caption.kind, caption.text] for caption in captions]
        line = json.dumps({"hash": hash, "captions": listed}, ensure_ascii=False).encode("utf-8", "backslashreplace")
        with self._lock:
            self._place[hash] = self._file.seek(0, os.SEEK_END)
            self._file.write(line + b"\n")
            self._file.flush()

    def get(self, hash: str) -> list[WrongCaption] | None:
        with self._lock:
            self._file.seek(self._place[hash])
            listed = json.loads(self._file.readline())["captions"]
        return None if listed is None else [WrongCaption(kind, text) for kind, text in listed]

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        """Finds the lines, and removes the half line that a kill may have left at the end."""
        self._file.seek(0)
        start = 0
        for line in self._file:
            try:
                self._place[json.loads(line)["hash"]] = start
            except (ValueError, KeyError, TypeError):
                if line.endswith(b"\n"):
                    raise UserError(f"{self.path} is not a cache of answers; choose another --out") from None
                break
            start += len(line)
        self._file.truncate(start)
