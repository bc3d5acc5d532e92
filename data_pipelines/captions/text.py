"""Decodes the captions and the metadata of a sample.

A `.txt` has a caption on each line. A `.json` is an object; its `negatives` are captions that are wrong on purpose,
`{"kind": …, "text": …}`.
"""

import html
import json
import re
from codecs import getincrementaldecoder
from collections.abc import Mapping

import ftfy

from tercet.data_pipelines.bad_samples import BadSample

MOST_BYTES = 2**20  # of a `.txt`
MOST_CHARACTERS = 2**14  # of a caption: the time to repair it grows with its length
END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")  # between two sentences
REPAIRS = 4  # layers of damage that are undone; real captions have one or two


def decode_captions(data: bytes) -> tuple[str, ...]:
    """The lines that are not empty, not cleaned yet. Only the first MOST_BYTES are read."""
    decoder = getincrementaldecoder("utf-8-sig")()
    try:
        lines = decoder.decode(data[:MOST_BYTES], final=len(data) <= MOST_BYTES).splitlines()
    except UnicodeDecodeError as error:
        raise BadSample("text: not UTF-8") from error
    return tuple(line.strip() for line in lines if line.strip())


def decode_meta(data: bytes) -> dict[str, object]:
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("json: unreadable") from error
    if not isinstance(meta, dict):
        raise BadSample("json: not an object")
    return meta


def negatives_of(meta: Mapping[str, object]) -> tuple[str, ...]:
    listed = meta.get("negatives", [])
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("text"), str) for one in listed
    ):
        raise BadSample("json: negatives are not a list of {kind, text}")
    return tuple(cleaned(one["text"]) for one in listed)


def cleaned(caption: str) -> str:
    """A caption as open_clip cleans it, until cleaning changes nothing more.

    So a tower whose tokenizer cleans and one whose tokenizer does not read the same caption. Once is not enough if an
    entity is beside a `<`, which ftfy takes for markup, or if damage was done in layers. A caption longer than
    MOST_CHARACTERS is cut there: no tokenizer reads so far.
    """
    caption = caption[:MOST_CHARACTERS]
    for _ in range(REPAIRS):
        if _is_plain(caption):
            break
        before, caption = caption, _spaced(html.unescape(html.unescape(ftfy.fix_text(caption))))
        if caption == before:
            return caption
    return _spaced(caption)


def first_sentences(caption: str, count: int) -> str:
    """The beginning of a caption. A full stop, and a space after it, end a sentence, also after an abbreviation."""
    ends = [end.start() for end in END.finditer(caption)]
    return caption[: ends[count - 1]] if len(ends) >= count else caption


def _is_plain(caption: str) -> bool:
    """Whether nothing in it can need repair, which saves most captions the cost of looking."""
    return caption.isascii() and caption.isprintable() and "&" not in caption


def _spaced(caption: str) -> str:
    return " ".join(caption.split())
