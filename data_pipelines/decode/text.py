"""Bytes to captions and to what a sample says of itself.

A `.txt` holds captions, one a line. A `.json` may name a `group` (samples that describe the same thing share it) and
`negatives` (captions that are wrong on purpose, `{"kind": …, "text": …}`).
"""

import json
from hashlib import blake2b

from tercet.data_pipelines.bad_samples import BadSample


def decode_captions(data: bytes) -> tuple[str, ...]:
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadSample("text: not UTF-8") from error
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        raise BadSample("text: empty")
    return captions


def decode_meta(data: bytes) -> dict[str, object]:
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("json: unreadable") from error
    if not isinstance(meta, dict):
        raise BadSample("json: not an object")
    return meta


def group_of(meta: dict[str, object], id: int) -> int:
    """The named group as a number from 0 to 2⁶³ - 1; below zero, a group of the sample's own."""
    name = meta.get("group")
    if name is None:
        return -1 - id
    if isinstance(name, int) and 0 <= name < 2**63:
        return name
    return int.from_bytes(blake2b(str(name).encode(), digest_size=8).digest(), "big") >> 1


def negatives_of(meta: dict[str, object]) -> tuple[str, ...]:
    listed = meta.get("negatives", [])
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("text"), str) for one in listed
    ):
        raise BadSample("json: negatives are not a list of {kind, text}")
    return tuple(one["text"] for one in listed)
