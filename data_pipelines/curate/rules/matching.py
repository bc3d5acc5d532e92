"""Finds the entries of a list in captions, as whole words, by the automaton of Aho and Corasick (1975).

Captions and entries are compared without case and punctuation. In scripts without spaces between words, such as Chinese
and Thai, an entry may begin and end at any sign.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tercet.errors import UserError

SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(f"[{SPACELESS}]|[^\\W{SPACELESS}]+")

Entries = Mapping[str, Sequence[str]]  # by language; "" if languages do not matter


def words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


class Matcher:
    """The entries of one language. Entries with the same words count as one: the first."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._automaton: Any = _ahocorasick().Automaton()
        for number, entry in enumerate(entries):
            spaced = _spaced(words(entry))
            if len(spaced) > 2 and spaced not in self._automaton:
                self._automaton.add_word(spaced, number)
        if len(self._automaton):
            self._automaton.make_automaton()

    def __call__(self, caption: str) -> list[int]:
        """The numbers of the entries in it, ascending, each once."""
        if not len(self._automaton):
            return []
        return sorted({number for _, number in self._automaton.iter(_spaced(words(caption)))})


@lru_cache(maxsize=1)
def matchers(path: Path) -> Mapping[str, Matcher]:
    """By language, from a JSON file. Built once in each process."""
    found: Entries = json.loads(path.read_bytes())
    return {language: Matcher(entries) for language, entries in found.items()}


def read_entries(path: Path) -> list[str]:
    """One entry a line, or a JSON list, as MetaCLIP's `metadata.json` is."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"the entries {path} cannot be read ({error}); give one a line, or a JSON list") from None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UserError(f"{path} is not a list of texts; give one entry a line, or a JSON list of texts")
    entries = [one.strip() for one in found if one.strip()]
    if not entries:
        raise UserError(f"{path} has no entries; give one a line, or a JSON list of texts")
    return entries


def _spaced(found: list[str]) -> str:
    return f" {' '.join(found)} "


def _ahocorasick() -> Any:
    try:
        return import_module("ahocorasick")
    except ImportError as error:
        raise UserError("matching entries needs pyahocorasick; pip install 'tercet[curate]'") from error
