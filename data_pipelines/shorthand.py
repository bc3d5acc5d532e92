"""Short ways to say what data there are, written out: a source alone, and one that is split in two."""

from collections.abc import Collection
from typing import Any

from tercet.configs.base import Misfit

HELD_OUT = 0.1  # of a source that is all there is


def split_in_two(raw: Any, learned: Collection[str], looked_at: Collection[str]) -> Any:
    """A single source as two parts of it; or where `val` names another, as what is learned from.

    `learned` and `looked_at` are the options of a source on either side.
    """
    if isinstance(raw, str | list | tuple):
        raw = {"source": raw}
    if not isinstance(raw, dict):
        return raw
    if "source" not in raw:
        if "held_out" in raw:
            raise Misfit("held_out", "is a share of a single source; name that as `data.source`")
        return raw
    if "train" in raw:
        raise Misfit("source", "and `data.train` say the same thing twice; leave one of them out")
    own = {name: value for name, value in raw.items() if name in learned}
    rest = {name: value for name, value in raw.items() if name not in own and name != "held_out"}
    held_out = _share(raw.get("held_out", HELD_OUT))
    if not held_out or "val" in raw:
        return {**rest, "train": own}
    if "part" in own:
        raise Misfit("part", "and `data.held_out` divide the same source; set train.part and val.part")
    others = {name: value for name, value in own.items() if name in looked_at}
    return {**rest, "train": {**own, "part": [held_out, 1]}, "val": {**others, "part": [0, held_out]}}


def named(raw: Any, name: str) -> Any:
    """What has no name, a source alone or written out, gets one."""
    if isinstance(raw, str | list | tuple) or (isinstance(raw, dict) and "source" in raw):
        raw = {name: raw}
    if not isinstance(raw, dict):
        raise ValueError(f"{raw!r} is no source; give shards, a table, a folder, a list of them, or sources by name")
    return {key: {"source": one} if isinstance(one, str | list | tuple) else one for key, one in raw.items()}


def _share(held_out: Any) -> float:
    if not isinstance(held_out, int | float) or not 0 <= held_out < 1:
        raise Misfit("held_out", f"is `{held_out}`, but should be a share from 0 to below 1")
    return held_out
