"""Class names and prompts that installed packages carry, by their names, so that tasks need no copy of them.

| in a task | the list |
|---|---|
| `open_clip:NAME` | a list of open_clip, such as `IMAGENET_CLASSNAMES` or `OPENAI_IMAGENET_TEMPLATES` |
| `timm:NAME` | the WordNet ids of a set of ImageNet's classes, such as `imagenet-1k` |

A task holds the words themselves once it is read, so its hashes depend on them, and not on their name.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from tercet.errors import did_you_mean
from tercet.eval.classification.labels import numbered

SLOT = "{class}"  # where a template has the class


def _of_open_clip(name: str) -> list[str]:
    import open_clip

    listed = {key: value for key, value in vars(open_clip).items() if key.isupper() and isinstance(value, tuple | list)}
    if name not in listed:
        raise ValueError(f"open_clip has no list `{name}`; {did_you_mean(name, listed)}")
    return [one(SLOT) if callable(one) else one for one in listed[name]]


def _of_timm(name: str) -> list[str]:
    from timm.data import ImageNetInfo

    try:
        return list(ImageNetInfo(name).label_names())
    except AssertionError:
        raise ValueError(f"timm has no classes of `{name}`; write `timm:imagenet-1k`") from None


PACKAGES: Mapping[str, Callable[[str], list[str]]] = {"open_clip": _of_open_clip, "timm": _of_timm}
NAMED = re.compile(rf"({'|'.join(PACKAGES)}):(\S+)")


def _words(raw: object) -> list[str] | None:
    """The list of this name, such as `timm:imagenet-1k`. None if it is not such a name."""
    found = NAMED.fullmatch(raw) if isinstance(raw, str) else None
    return PACKAGES[found[1]](found[2]) if found else None


def _classes(raw: Any) -> Any:
    """The words of each label. Without a list of labels, these are the words, or numbers if words repeat."""
    if (words := _words(raw)) is not None:
        return numbered(words)
    if not isinstance(raw, Mapping) or len(raw) != 1:
        return raw
    ((name, named),) = raw.items()
    labels, words = _words(name), _words(named)
    if labels is None or words is None:
        return raw
    if len(labels) != len(words):
        raise ValueError(f"`{name}` has {len(labels):,} labels, and `{named}` {len(words):,} names; use lists that fit")
    return dict(zip(labels, words, strict=True))


def _templates(raw: Any) -> Any:
    found = _words(raw)
    return raw if found is None else found


Classes = Annotated[dict[str, str], BeforeValidator(_classes)]
Templates = Annotated[tuple[str, ...], BeforeValidator(_templates)]
