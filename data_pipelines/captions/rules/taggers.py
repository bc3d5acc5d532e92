"""Finds the part of speech of each word: by lists of words and endings, or by the tagger of TextBlob.

TextBlob's tagger (of the project `pattern`, De Smedt & Daelemans 2012; after Brill 1992) comes with its lexicon in the
package, so that it needs no download. The plain one knows common words of captions and takes all others for nouns.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

from tercet.data_pipelines.captions.rules.sentence import NOUNS, Sentence, Tag, parts_of
from tercet.data_pipelines.captions.rules.vocabulary import (
    ADJECTIVES,
    COPULAS,
    DETERMINERS,
    FUNCTION,
    NOT_VERBS,
    NUMBERS,
    OF_WORD,
    PAST,
    PLACES,
    PLURALS,
    PRONOUNS,
    VERBS,
)
from tercet.errors import UserError

TaggerName = Literal["words", "textblob"]
Tagger = Callable[[Sequence[str]], list[Tag]]

PENN: dict[str, Tag] = {"NN": "noun", "JJ": "adjective", "CD": "number", "VB": "verb", "RB": "adverb"}
ATTRIBUTES = frozenset(word for word, known in OF_WORD.items() if any(kind != "number" for kind, _ in known))


def read(caption: str, name: TaggerName) -> Sentence:
    """A caption with its parts of speech."""
    parts = parts_of(caption)
    words = parts[1::2]
    tags = _TAGGERS[name](words)
    lower = [word.lower() for word in words]
    return Sentence(
        caption,
        parts,
        tuple("function" if _is_place(lower, place) else tag for place, tag in enumerate(tags)),
    )


def check_tagger(where: str, name: TaggerName) -> None:
    """Raises `UserError` if the package of a tagger is not installed."""
    if name == "textblob" and find_spec("textblob") is None:
        raise UserError(f"{where}: `textblob` is not installed; pip install 'tercet[tagger]', or set it to `words`")


def by_words(words: Sequence[str]) -> list[Tag]:
    lower = [word.lower() for word in words]
    tags: list[Tag] = []
    for place, word in enumerate(lower):
        before = lower[place - 1] if place else ""
        after = lower[place + 1] if place + 1 < len(lower) else ""
        tags.append(_by_word(word, before, after, tags[-1] if tags else "function"))
    return tags


def _by_word(word: str, before: str, after: str, tag_before: Tag) -> Tag:
    describes = bool(after) and after not in FUNCTION
    if word in NUMBERS or word.isdecimal():
        return "number"
    if word in FUNCTION:
        return "function"
    if word in ATTRIBUTES:
        return "adjective" if describes or before in COPULAS or after in ("and", "or") else _noun(word)
    if word in ADJECTIVES:
        return "adjective"
    if word.endswith("ly") and len(word) > 4:
        return "adverb"
    if word.endswith(("ing", "ed")) and len(word) > 4 and word not in NOT_VERBS:
        return "adjective" if before in DETERMINERS and describes else "verb"
    acts = tag_before in NOUNS or before in PRONOUNS or before == "to"
    if acts and (word in PAST or _stem(word) in VERBS):
        return "verb"
    return _noun(word)


def _noun(word: str) -> Tag:
    ends = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return "plural" if word in PLURALS or ends else "noun"


def _stem(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("es") and word[:-2] in VERBS:
        return word[:-2]
    return word.removesuffix("s")


def _is_place(lower: Sequence[str], place: int) -> bool:
    """Words such as `left` and `top` belong to a relation: `on the left`, `on top of`."""
    if lower[place] not in PLACES:
        return False
    before = lower[max(place - 2, 0) : place]
    after = lower[place + 1 : place + 2]
    return after == ["of"] or after == ["side"] or (bool(before) and before[0] in ("on", "to", "in", "at"))


def by_textblob(words: Sequence[str]) -> list[Tag]:
    """Without splitting words further, so that every word has one tag."""
    return [_penn(word, tag) for word, tag in _parser().find_tags(list(words))]


def _penn(word: str, tag: str) -> Tag:
    if word.lower() in FUNCTION:
        return "function"
    if tag.startswith("NN") and tag.endswith("S"):
        return "plural"
    return PENN.get(tag[:2], "function")


@cache
def _parser() -> Any:
    check_tagger("tagger", "textblob")
    from textblob.en import parser

    return parser


_TAGGERS: dict[str, Tagger] = {"words": by_words, "textblob": by_textblob}
