"""The language and the script of a caption, offline.

Languages by py3langid (after Lui and Baldwin, 2012), if it is installed; scripts by the Unicode names of letters.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

SHORT = 16  # with fewer letters, a language would be a guess
SURE = 0.7  # probability
UNSURE, TOO_SHORT = "not sure", "too short to tell"


@lru_cache(maxsize=1)
def knows_languages() -> bool:
    return find_spec("py3langid") is not None


def language(caption: str) -> str:
    """Its code as in ISO 639."""
    if sum(map(str.isalpha, caption)) < (SHORT if caption.isascii() else SHORT // 4):  # a letter may be a syllable
        return TOO_SHORT
    code, probability = _identifier()(caption)
    return code if probability >= SURE else UNSURE


def script(caption: str) -> str:
    """The script of most of its letters."""
    letters = Counter(map(_script, filter(str.isalpha, caption)))
    return letters.most_common(1)[0][0] if letters else "no letters"


@lru_cache(maxsize=1)
def _identifier() -> Callable[[str], tuple[str, float]]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier.classify  # type: ignore[no-any-return]


@lru_cache(maxsize=2**14)
def _script(letter: str) -> str:
    """LATIN SMALL LETTER A is Latin."""
    return unicodedata.name(letter, "unnamed").split()[0].capitalize()
