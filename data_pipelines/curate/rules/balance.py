"""Balances the concepts of captions with MetaCLIP's algorithm, in two passes over the captions.

The first pass finds the entries in each caption and counts them. The second one keeps a caption with the probability
1 - prod(1 - t / max(count, t)) over its entries: a caption with a rare entry stays, and frequent entries are thinned.
The draw is a function of the seed and the sample. Differs: case and punctuation do not matter, and every language is
matched in the same way.

Shape letters: n captions of a part, M matches.
"""

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from tercet.data_pipelines.captions.rules.taggers import TaggerName, check_tagger, read
from tercet.data_pipelines.curate.chance import items, uniform
from tercet.data_pipelines.curate.database import quoted
from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.entering import Entering, Table
from tercet.data_pipelines.curate.rules.matching import Entries, matchers, read_entries, words
from tercet.data_pipelines.curate.rules.rule import Rule, curation_rule, decided
from tercet.data_pipelines.curate.rules.tail import (
    Counts,
    entry_probability,
    keep_probability,
    tail_share,
    threshold_of,
)
from tercet.errors import UserError
from tercet.whole_file import whole_file, write_whole

OF_DATA = ("words", "concepts")
ENTRIES, COUNTED, MATCHES, KEPT = "entries.json", "words", "matches", "balanced"
CONCEPTS = "concepts.csv"  # beside the decision


@curation_rule("balance")
class Balance(Rule):
    """Thins the captions with frequent entries of a list, as MetaCLIP does. Drops captions without any entry."""

    bare: ClassVar[str] = "metadata"
    metadata: str | dict[str, str] = Field(
        "words",
        description="a file of entries, one a line or a JSON list; such a file by language; or taken from the data: "
        "`words`, or `concepts`, which are nouns and adjectives (as DiHT mines them)",
    )
    t: int = Field(
        20_000, gt=0, description="matches of an entry above which it is thinned; MetaCLIP's 400M used 20,000"
    )
    least: int = Field(20, gt=0, description="captions that a word of the data must be in to become an entry")
    text: str = Field("signals.text", description="the column of the caption")
    language: str | None = Field(
        None,
        description="the column of the language, such as signals.language: each language gets its own counts, and its "
        "own t with the same share of the tail as that of `main`, as in MetaCLIP 2",
    )
    main: str = Field("en", description="the language that `t` is of, if there is a `language`")
    tagger: TaggerName = Field("words", description="what finds concepts; textblob is better, and needs tercet[tagger]")
    seed: int = Field(0, ge=0, lt=2**63, description="of the draw")

    @property
    def label(self) -> str:
        name = self.metadata if isinstance(self.metadata, str) else ", ".join(self.metadata)
        return f"{Path(name).name}, t = {self.t:,}"

    def decide(self, entering: Entering) -> str:
        columns = {"text": self.text, "language": f"coalesce({self.language or repr('')}, '')"}
        path = entering.folder / ENTRIES
        if not path.is_file():
            entries = self._entries(entering, columns)
            write_whole(path, json.dumps(entries))
        begun = time.monotonic()
        done = len(entering.results(MATCHES))
        matched = entering.over_parts(columns, partial(match_part, path), MATCHES, "matches captions")
        _report_speed(entering, time.monotonic() - begun, done)
        thresholds = self.thresholds(counts_of(entering.results(MATCHES)))
        work = partial(_draw_part, self.seed, thresholds)
        ready = {name: f"{MATCHES}.{name}" for name in ("language", "entries")}
        kept = entering.over_parts(ready, work, KEPT, "balances captions", {MATCHES: matched})
        return decided(kept, probability="probability")

    def after(self, entering: Entering, decision: str, folder: Path) -> None:
        """Writes how many captions each entry is in, of those that entered and of those that are kept in the end."""
        matched = f"SELECT * FROM read_parquet({quoted(entering.folder / MATCHES / '*.parquet')})"
        each = f"SELECT language, unnest(entries) AS entry, keep FROM ({matched}) JOIN ({decision}) USING (source, id)"
        counted = "SELECT language, entry, count(*) AS before, count(*) FILTER (keep) AS after"
        names: Entries = json.loads((entering.folder / ENTRIES).read_bytes())
        with whole_file(folder / CONCEPTS) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["language", "entry", "before", "after"])
            sql = f"{counted} FROM ({each}) GROUP BY ALL ORDER BY before DESC, language, entry"
            for row in entering.query(sql).to_pylist():
                table.writerow([row["language"], names[row["language"]][row["entry"]], row["before"], row["after"]])

    def thresholds(self, counts: Mapping[str, Counts]) -> dict[str, tuple[Counts, int]]:
        """The counts of each language, with its t."""
        if self.language is None or self.main not in counts:
            if self.language and counts:
                raise UserError(
                    f"balance: no caption is in `{self.main}`; set `main` to one of {', '.join(sorted(counts))}"
                )
            return {name: (count_E, self.t) for name, count_E in counts.items()}
        share = tail_share(counts[self.main], self.t)
        return {
            name: (count_E, self.t if name == self.main else threshold_of(count_E, share))
            for name, count_E in counts.items()
        }

    def _entries(self, entering: Entering, columns: Mapping[str, str]) -> Entries:
        if isinstance(self.metadata, dict):
            return {language: read_entries(Path(name)) for language, name in self.metadata.items()}
        if self.metadata in OF_DATA:
            return self._of_data(entering, columns)
        return dict.fromkeys(self._languages(entering, columns), read_entries(Path(self.metadata)))

    def _of_data(self, entering: Entering, columns: Mapping[str, str]) -> Entries:
        """The words or concepts that are in enough captions, the most frequent first."""
        check_tagger(entering.place, self.tagger)
        work = partial(_count_part, self.tagger if self.metadata == "concepts" else None)
        counted = entering.over_parts(columns, work, COUNTED, "counts words")
        frequent = f"SELECT language, word, sum(captions) AS n FROM ({counted}) GROUP BY ALL HAVING n >= {self.least}"
        entries: dict[str, list[str]] = {}
        for row in entering.query(f"{frequent} ORDER BY language, n DESC, word").to_pylist():
            entries.setdefault(row["language"], []).append(row["word"])
        if not entries:
            raise UserError(f"{entering.place}: no word is in {self.least:,} captions; lower `least`")
        return entries

    def _languages(self, entering: Entering, columns: Mapping[str, str]) -> list[str]:
        if self.language is None:
            return [""]
        rows = entering.query(f"SELECT DISTINCT language FROM ({entering.select(columns)}) ORDER BY language")
        return list(rows["language"].to_pylist())


def _count_part(tagger: TaggerName | None, table: Table) -> Table:
    """How many captions of each language have each word, or each concept."""
    captions: Counter[tuple[str, str]] = Counter()
    for language, text in zip(table["language"].to_pylist(), table["text"].to_pylist(), strict=True):
        found = _concepts(text or "", tagger) if tagger else words(text or "")
        captions.update((language, word) for word in set(found))
    pa = arrow()
    names = {"language": [one for one, _ in captions], "word": [one for _, one in captions]}
    columns = {name: pa.array(values, pa.string()) for name, values in names.items()}
    return pa.table({**columns, "captions": pa.array(list(captions.values()), pa.int64())})


def _concepts(text: str, tagger: TaggerName) -> list[str]:
    sentence = read(text, tagger)
    return [sentence.lower[place] for place in sentence.places("noun", "plural", "adjective")]


def match_part(path: Path, table: Table) -> Table:
    """The entries in each caption of a part, by their numbers among those of its language."""
    by_language = matchers(path)
    found = [
        by_language[language](text) if text and language in by_language else []
        for language, text in zip(table["language"].to_pylist(), table["text"].to_pylist(), strict=True)
    ]
    pa = arrow()
    entries = pa.array(found, pa.list_(pa.int32()))
    return pa.table({**{name: table[name] for name in ("source", "id", "language")}, "entries": entries})


def counts_of(files: Sequence[Path]) -> dict[str, Counts]:
    """How many captions each entry is in, by language."""
    counts: dict[str, Counts] = {}
    for file in files:
        table = arrow().parquet.read_table(file)
        for language, entry_M in _matches_by_language(table).items():
            count_E = np.bincount(entry_M)
            before_E = counts.get(language, count_E[:0])
            longer, shorter = sorted((before_E, count_E), key=len, reverse=True)
            counts[language] = longer.astype(np.int64)
            counts[language][: len(shorter)] += shorter
    return counts


def _matches_by_language(table: Table) -> dict[str, Counts]:
    language_n = np.array(table["language"].to_pylist(), dtype=object)
    entry_M, size_n = _flat(table["entries"])
    language_M = np.repeat(language_n, size_n)
    return {name: entry_M[language_M == name] for name in dict.fromkeys(language_n.tolist())}


def _flat(entries: Table) -> tuple[Counts, Counts]:
    column = entries.combine_chunks()
    size_n = np.diff(column.offsets.to_numpy()).astype(np.int64)
    return column.flatten().to_numpy().astype(np.int64), size_n


def _draw_part(seed: int, thresholds: Mapping[str, tuple[Counts, int]], table: Table) -> Table:
    pa = arrow()
    source = table["source"][0].as_py() if len(table) else ""
    probability_n = np.zeros(len(table))
    language_n = np.array(table["language"].to_pylist(), dtype=object)
    for language, (count_E, t) in thresholds.items():
        (here,) = np.nonzero(language_n == language)
        if len(here):
            entry_M, size_n = _flat(table["entries"].take(pa.array(here)))
            probability_n[here] = keep_probability(entry_M, size_n, entry_probability(count_E, t))
    keep_n = uniform("balance", seed, items(source, table["id"].to_numpy())) < probability_n
    return pa.table({"source": table["source"], "id": table["id"], "keep": keep_n, "probability": probability_n})


def _report_speed(entering: Entering, seconds: float, done: int) -> None:
    """How many captions a minute were matched now."""
    total = len(list(entering.scores.parts()))
    matched = entering.count * (total - done) // max(total, 1)
    if matched:
        pace = f"{60 * matched / max(seconds, 1e-9):,.0f} a minute"
        print(f"{entering.place}: matched {matched:,} captions, {pace}", file=sys.stderr)
