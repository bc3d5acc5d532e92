"""Makes wrong captions by rules: exchanges attributes of things, or replaces one attribute.

After the hard negatives of ARO (Yuksekgonul et al., 2023) and SugarCrepe (Hsieh et al., 2023), with one departure: they
start from a description in attributes instead of a sentence, so that every result is fluent and certainly wrong. A
description is a tuple of things, each a mapping from attribute to value; the result describes other things.
"""

from collections.abc import Callable, Mapping, Sequence

Thing = Mapping[str, str]
Things = tuple[Thing, ...]


def swaps(things: Things, allowed: Callable[[Thing], bool]) -> list[Things]:
    """The first two things with one attribute exchanged, if that gives other things."""
    if len(things) < 2:
        return []
    first, second, *rest = things
    unequal = [name for name in first if first[name] != second[name]]
    exchanged = [({**first, name: second[name]}, {**second, name: first[name]}, *rest) for name in unequal]
    return [wrong for wrong in exchanged if _differs(wrong, things) and all(map(allowed, wrong[:2]))]


def replacements(things: Things, values: Mapping[str, Sequence[str]], allowed: Callable[[Thing], bool]) -> list[Things]:
    """One attribute of one thing replaced by another value."""
    changed = [
        (position, {**thing, name: value})
        for position, thing in enumerate(things)
        for name in thing
        for value in values[name]
        if value != thing[name]
    ]
    return [(*things[:position], thing, *things[position + 1 :]) for position, thing in changed if allowed(thing)]


def _differs(wrong: Things, things: Things) -> bool:
    return sorted(sorted(thing.items()) for thing in wrong) != sorted(sorted(thing.items()) for thing in things)
