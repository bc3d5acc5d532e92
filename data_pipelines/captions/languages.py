"""Captions by language: `{"en": "a dog", "de": "ein Hund"}`, in a table as in `.json`."""

from collections.abc import Mapping

CODES = (  # ISO 639-1
    "ar bg bn bs ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja ka kk km kn ko lo lt lv mk "
    "ml mn mr ms mt my nb ne nl nn no pa pl pt ro ru si sk sl sq sr sv sw ta te th tl tr uk ur uz vi zh zu"
)
LANGUAGES = frozenset(CODES.split())


def language(name: str) -> str | None:
    """`de`, `de-AT` and `zh_Hans` name languages."""
    code, _, variant = name.replace("_", "-").partition("-")
    return code.lower() if code.lower() in LANGUAGES and (not variant or variant.isalpha()) else None


def by_language(value: object) -> Mapping[str, object]:
    """The captions of such a mapping; none for other values."""
    named = isinstance(value, Mapping) and bool(value) and all(isinstance(key, str) and language(key) for key in value)
    return value if named and isinstance(value, Mapping) else {}
