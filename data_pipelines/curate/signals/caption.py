"""The signals of a caption: its length, its words and its language.

A word is a run of letters and digits, without capitals. Languages that are written without spaces have long words then.
"""

import re
from unicodedata import category

from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.survey.language import TOO_SHORT, UNSURE, knows_languages, language
from tercet.data_pipelines.survey.wording import words

URL = re.compile(r"https?://|\bwww\.|\b[\w-]+\.(?:com|org|net|info|biz|io|co\.uk|de|fr|ru|cn|jp)\b", re.IGNORECASE)
BOILERPLATE = re.compile(
    r"\.(?:jpe?g|png|gif|webp|tiff?|mp3|wav|flac)\b"  # the name of a file
    r"|\b(?:img|dsc[nf]?|pict|mvi)[ _-]?\d{3,}"  # as cameras name files
    r"|\ball rights reserved\b|\bcopyright\b|©"
    r"|\b(?:stock|royalty[ -]free) (?:photos?|images?|pictures?|vectors?|illustrations?|footage)\b"
    r"|\b(?:click|tap) (?:here|to (?:enlarge|zoom|view))\b|\bview (?:larger|full size)\b"
    r"|\b(?:no|missing) (?:photo|image|picture|description)\b|\b(?:image|photo) (?:not found|unavailable|coming soon)\b"
    r"|\badd to (?:cart|basket)\b|\bfree shipping\b|\bbuy now\b|\bread more\b|^untitled\b",
    re.IGNORECASE,
)

COLUMNS = {
    "text": ScoreColumn("string", "the first caption, cleaned as for training"),
    "captions": ScoreColumn("int32", "how many captions the sample has"),
    "characters": ScoreColumn("int32", "length of `text`; the next columns are also about `text`"),
    "words": ScoreColumn("int32", "number of words"),
    "repeated_words": ScoreColumn("float32", "share of the words that are in the caption before"),
    "symbols": ScoreColumn(
        "float32", "share of the characters other than letters, such as digits and punctuation; spaces do not count"
    ),
    "language": ScoreColumn(
        "string", "ISO 639 code by py3langid; null if that is not installed, or the caption is too short to be sure"
    ),
    "url": ScoreColumn("bool", "has a web address"),
    "boilerplate": ScoreColumn("bool", "has a file name, a copyright, or a phrase of shops and stock photos"),
}


def caption_signals(captions: tuple[str, ...]) -> dict[str, object]:
    text = captions[0]
    found = words(text)
    signs = [character for character in text if not character.isspace()]
    return {
        "text": text,
        "captions": len(captions),
        "characters": len(text),
        "words": len(found),
        "repeated_words": 1 - len(set(found)) / len(found) if found else 0.0,
        "symbols": sum(category(character)[0] not in "LM" for character in signs) / len(signs),
        "language": _language(text),
        "url": URL.search(text) is not None,
        "boilerplate": BOILERPLATE.search(text) is not None,
    }


def _language(text: str) -> str | None:
    found = language(text) if knows_languages() else UNSURE
    return None if found in (UNSURE, TOO_SHORT) else found
