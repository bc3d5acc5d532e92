"""Examines every file of every shard, or every row of a table, and counts faults by reason, shard and sample.

A sample counts under its first fault, so that the reasons add up to the bad samples. A damaged shard cannot be trusted,
and none of its samples are counted.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import Fault
from tercet.data_pipelines.decode.fault import fault_of
from tercet.data_pipelines.manifests.find import find_pieces, is_manifest
from tercet.data_pipelines.manifests.reading import PLAIN, Reading
from tercet.data_pipelines.manifests.source import ManifestSource, open_manifest_source
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.shards.record import Record
from tercet.data_pipelines.shards.remote import RemoteShards
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.survey.content import Equals
from tercet.data_pipelines.survey.examine import SampleChecker
from tercet.data_pipelines.survey.findings import AGAIN, NOTES, Findings
from tercet.data_pipelines.survey.manifest import promises
from tercet.data_pipelines.survey.stock import Stock, digest, take_stock
from tercet.data_pipelines.survey.walk import parts_of, walk
from tercet.errors import UserError
from tercet.modality import how_to_convert

USUAL = 0.9  # a kind of file that so many samples have is missing from the others
HERE, ELSEWHERE, LISTED = 1, 2, 3
REPEATED = {
    HERE: "key: used before in its shard",
    ELSEWHERE: "key: used before in another shard",
    LISTED: AGAIN,
}


def listing_beside(page: Path) -> Path:
    """The file with the bad samples of a page. The list that packing writes under that name is not overwritten."""
    page.parent.mkdir(parents=True, exist_ok=True)
    if (page.parent / "manifest.json").exists():
        raise UserError(
            f"{page.parent} contains packed shards and their own bad_samples.jsonl; choose another folder for the page"
        )
    return page.parent / "bad_samples.jsonl"


def check(spec: str | Sequence[str], workers: int, listing: Path | None = None, reading: Reading = PLAIN) -> Findings:
    """Examines all shards, or all rows of a table or a folder. Each bad sample becomes a line of `listing`."""
    findings, source, repeated_N = _listed(spec, reading) if is_manifest(spec) else _in_shards(spec, workers)
    damage = [Fault(shard, "", -1, f"shard: {what}") for shard, what in findings.damaged.items()]
    with (listing or Path(os.devnull)).open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(asdict(fault)) + "\n" for fault in damage)
        for fault in _faults(source, findings.usual, repeated_N, workers):
            findings.add(fault)
            if fault.reason not in NOTES:
                lines.write(json.dumps(asdict(fault)) + "\n")
    return findings


def _in_shards(spec: str | Sequence[str], workers: int) -> tuple[Findings, Source, NDArray[np.uint8]]:
    keys = Equals()
    stocks = _held_to_manifests(list(_stocks(find_shards(spec), workers, keys)), workers)
    source = _source({stock.shard: stock.record for stock in stocks if stock.record})
    return _findings(stocks), source, _repeated(keys, source.counts)


def _listed(spec: str | Sequence[str], reading: Reading) -> tuple[Findings, Source, NDArray[np.uint8]]:
    source = open_manifest_source(find_pieces(spec), reading)
    repeated_N = np.zeros(len(source), dtype=np.uint8)
    repeated_N[source.index.arrays["repeated"]] = LISTED
    findings = Findings(
        shards=len(source.tables), damaged={}, samples_of=source.tables,
        bytes=0, files={}, passed_over=source.passed_over, usual=[], hints=_hints(source),
    )  # fmt: skip
    return findings, source, repeated_N


def _hints(source: ManifestSource) -> list[str]:
    return [*([source.lacking] if source.lacking else []), *how_to_convert(source.passed_over)]


def _held_to_manifests(stocks: Sequence[Stock], workers: int) -> list[Stock]:
    """Marks shards that differ from the `manifest.json` beside them as damaged, even if they are complete tars."""
    promised = promises(stock.shard for stock in stocks)
    present = [stock.shard for stock in stocks if stock.shard in promised and not stock.damage]
    digests = dict(zip(present, walk(digest, present, workers, "comparing checksums"), strict=True))
    held = [
        replace(stock, damage="its sha256 is not that of manifest.json")
        if digests.get(stock.shard, promised.get(stock.shard)) != promised.get(stock.shard)
        else stock
        for stock in stocks
    ]
    absent = sorted(shard for shard in promised if not Path(shard).exists())
    return held + [Stock(shard, damage="manifest.json lists it, but it does not exist") for shard in absent]


def _source(records: Mapping[str, Record]) -> Source:
    far = [shard for shard in records if is_url(shard)]
    if not far:
        return Shards(list(records.values()))
    if len(far) < len(records):
        raise UserError(f"{redacted(far[0])} is behind a URL and other shards are on disk; check one kind at a time")
    return RemoteShards({url: record.samples for url, record in records.items()}, Cache(), "skip")


def _findings(stocks: Sequence[Stock]) -> Findings:
    kinds, files, passed_over = (
        sum((Counter(getattr(stock, name)) for stock in stocks), Counter[str]())
        for name in ("kinds", "files", "passed_over")
    )
    samples_of = {redacted(stock.shard): stock.record.samples for stock in stocks if stock.record}
    return Findings(
        shards=len(stocks),
        damaged={redacted(stock.shard): stock.damage for stock in stocks if stock.damage},
        samples_of=samples_of,
        bytes=sum(stock.bytes for stock in stocks),
        files=dict(files.most_common()),
        passed_over=dict(passed_over.most_common()),
        usual=[kind for kind in kinds if kinds[kind] >= USUAL * sum(samples_of.values())],
        hints=how_to_convert(passed_over),
    )


def _stocks(shards: Sequence[str], workers: int, keys: Equals) -> Iterator[Stock]:
    """The content of each shard. Its keys go to `keys` with the ids of their samples, because there may be many."""
    first = 0
    for stock in walk(take_stock, shards, workers, "reading headers"):
        keys.add(stock.key_N, np.arange(first, first + len(stock.key_N)))
        first += len(stock.key_N)
        yield replace(stock, key_N=stock.key_N[:0].copy())


def _repeated(keys: Equals, counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """For each sample, whether its key was used before, in the same shard or in another."""
    ends = np.cumsum(counts)
    repeated_N = np.zeros(counts.sum(), dtype=np.uint8)
    for ids in keys.groups():
        shard_of = np.searchsorted(ends, ids, side="right")  # ids ascend, and so do their shards
        repeated_N[ids[1:]] = np.where(shard_of[1:] == shard_of[:-1], HERE, ELSEWHERE)
    return repeated_N


def _faults(source: Source, usual: Sequence[str], repeated_N: NDArray[np.uint8], workers: int) -> Iterator[Fault]:
    parts = parts_of(range(len(source)))
    for ids, found in zip(parts, walk(SampleChecker(source, usual), parts, workers, "reading samples"), strict=True):
        known = {fault.id for fault in found}
        again = [id for id in ids if repeated_N[id] and id not in known]
        more = [fault_of(source, id, REPEATED[int(repeated_N[id])]) for id in again]
        yield from sorted(chain(found, more), key=lambda fault: fault.id)
