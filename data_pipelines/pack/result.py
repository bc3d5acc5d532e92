"""The state of a folder of packed shards: the progress, its content, and what was left out and why."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tercet.data_pipelines.pack.journal import Journal
from tercet.data_pipelines.pack.plan import PackPlan
from tercet.data_pipelines.shards.record import FOLDER
from tercet.errors import UserError
from tercet.version import __version__
from tercet.whole_file import remove_drafts, sync, write_json, write_whole

PLAN, PARTIAL, RESULT, BAD = "plan.json", "manifest.json.partial", "manifest.json", "bad_samples.jsonl"


def begin(out: Path, plan: PackPlan) -> bool:
    """Whether all of the plan stands already. A folder that holds anything else than a part of it is refused."""
    described = plan.to_json()
    for name in (RESULT, PLAN):
        if (out / name).exists():
            there = json.loads((out / name).read_text(encoding="utf-8"))
            if different := ", ".join(_differences(there.get("plan", there), described)):
                raise UserError(
                    f"{out} was packed with other options ({different}); choose another folder, or delete this one"
                )
            return name == RESULT
    if any(out.glob("*.tar")):
        raise UserError(f"{out} contains other shards; choose another folder")
    write_json(out / PLAN, described)
    sync(out)
    return False


def finish(out: Path, plan: PackPlan, journal: Journal) -> None:
    """The lists of what is there and what is not, the latter first: `manifest.json` says that both are whole."""
    shards = [packed for _, packed in sorted(journal.packed.items())]
    left_out = [row for packed in shards for row in packed.left_out]
    lines = (json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in left_out)
    write_whole(out / BAD, "".join(lines))
    sync(out)
    files = [packed for packed in shards if packed.samples]
    result = {
        "tercet": __version__,
        "plan": plan.to_json(),
        "rows": plan.rows,
        "samples": sum(packed.samples for packed in files),
        "bytes": sum(packed.bytes for packed in files),
        "left_out": dict(Counter(row.reason for row in left_out).most_common()),
        "shards": [
            {"name": packed.name, "samples": packed.samples, "bytes": packed.bytes, "sha256": packed.sha256}
            for packed in files
        ],
    }
    write_json(out / RESULT, result)
    sync(out)


def clear(out: Path) -> dict[str, Any]:
    """The result, once nothing else is needed to know it; what a kill left half written goes too."""
    remove_drafts(out)
    remove_drafts(out / FOLDER)
    (out / PARTIAL).unlink(missing_ok=True)
    (out / PLAN).unlink(missing_ok=True)
    return dict(json.loads((out / RESULT).read_text(encoding="utf-8")))


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The path is none: the digest knows the same rows and files wherever they lie, however that is spelt."""
    for part in ("settings", "source"):
        for key in sorted({*there.get(part, {}), *now[part]} - {"path"}):
            before, after = there.get(part, {}).get(key), now[part].get(key)
            if before != after:
                yield WORDS.get(key) or f"{key} {_shown(before)} there, {_shown(after)} now"


WORDS = {"digest": "its rows or files have changed since"}


def _shown(value: Any) -> str:
    return "nothing" if value in (None, {}, []) else json.dumps(value, ensure_ascii=False)
