"""Expands the short forms of `data`: a source alone, and a source that is split into training and validation data."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from tercet.configs.base import Misfit
from tercet.errors import did_you_mean

HELD_OUT = 0.1  # share of a single source that is for validation by default
ALIKE = 0.8  # similarity of two words, by difflib


def split_in_two(raw: Any, learned: Collection[str], looked_at: Collection[str]) -> Any:
    """Expands `source` into `train` and `val`, each a part of it; or into `train` alone if `val` names other data.

    `learned` and `looked_at` are the options of a training and of a validation source.
    """
    raw = spelt(raw)
    if not isinstance(raw, dict):
        return raw
    if "source" not in raw:
        if "held_out" in raw:
            raise Misfit("held_out", "is a share of a single source; name the source as `data.source`")
        for name in filter(raw.__contains__, learned):
            raise Misfit(
                name, f"is an option of a single source; name the source as `data.source`, or write `data.train.{name}`"
            )
        return raw
    if "train" in raw:
        raise Misfit("source", "and `data.train` both name the training data; leave one of them out")
    own = {name: value for name, value in raw.items() if name in learned}
    rest = {name: value for name, value in raw.items() if name not in own and name != "held_out"}
    held_out = _share(raw.get("held_out", HELD_OUT))
    if not held_out or "val" in raw:
        return {**rest, "train": own}
    if "part" in own:
        raise Misfit("part", "and `data.held_out` split the same source; set train.part and val.part instead")
    if raw.get("mode") == "stream":
        own = {"split_by": "shard", **own}
    others = {name: value for name, value in own.items() if name in looked_at}
    return {**rest, "train": {**own, "part": [held_out, 1]}, "val": {**others, "part": [0, held_out]}}


def named(raw: Any, name: str, options: Collection[str]) -> Any:
    """Gives a name to a source that has none."""
    raw = spelt(raw)
    if not isinstance(raw, dict):
        raise ValueError(f"{raw!r} is not a source; give shards, a table, a folder, a list of them, or sources by name")
    if not raw or not is_one(raw, options):
        return {key: spelt(one) for key, one in raw.items()}
    for key in raw:
        if key not in options:
            raise Misfit(key, f"is not an option of a source; {did_you_mean(key, options)}")
    if "source" not in raw:
        key = next(iter(raw))
        raise Misfit("source", f"is missing; name the source, or write NAME.{key} for one of several")
    return {name: raw}


def spelt(raw: Any) -> Any:
    """A source alone as a mapping."""
    return {"source": list(raw) if isinstance(raw, tuple) else raw} if isinstance(raw, str | list | tuple) else raw


def is_one(raw: Mapping[str, Any], options: Collection[str]) -> bool:
    """Whether a mapping describes one source, and not several by name. A name that is close to an option counts as a
    misspelt option; to use it as a name, write the source as a mapping."""
    return "source" in raw or all(
        key in options or (not isinstance(value, Mapping) and get_close_matches(key, options, cutoff=ALIKE))
        for key, value in raw.items()
    )


def alike(below: Any, above: Any, options: Collection[str]) -> tuple[Any, Any]:
    """Sources of two layers, written so that the upper can be laid over the lower: options of a source are added to it,
    and sources by name replace a source without a name."""
    below, above = spelt(below), spelt(above)
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return below, above
    ones = [is_one(below, options), is_one(above, options)]
    if ones == [False, False]:
        return {name: spelt(one) for name, one in below.items()}, {name: spelt(one) for name, one in above.items()}
    if ones == [False, True] and "source" not in above and len(below) == 1:
        return below, dict.fromkeys(below, above)
    return ({} if ones[0] != ones[1] else below), above


def as_source(below: Any, above: Any, options: Collection[str]) -> Any:
    """`data` of an upper layer, over a recipe whose only source is `data.source`. There `train`, if it is one source or
    options of one, means that source, so that a share of it is still held out; and other validation data stay."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping) or "source" not in below:
        return above
    train = spelt(above.get("train"))
    one = isinstance(train, Mapping) and train and "part" not in train and all(key in options for key in train)
    if one and not {"val", *options} & above.keys():
        above = {**{key: value for key, value in above.items() if key != "train"}, **train}
    return {"val": below["val"], **above} if "val" in below and "source" in above else above


def _share(held_out: Any) -> float:
    if not isinstance(held_out, int | float) or not 0 <= held_out < 1:
        raise Misfit("held_out", f"is `{held_out}`; give a share from 0 to below 1")
    return held_out
