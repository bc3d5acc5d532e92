"""100,000 generated samples: planted bad pairs, duplicates and a long tail are found, in constant memory, after a kill.

pytest -m long -s tests/data_pipelines/test_curate_at_scale.py     prints time, memory, precision and recall
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource

RULES = """
clean:
  - where: similarity.image_text > 0.26
  - duplicates
balance:
  - balance: {metadata: words, t: 100, least: 5, seed: 1}
"""
PART = 65_536
WORDS = 800
TAIL = 60  # captions of an entry of the long tail


@dataclass(frozen=True)
class Planted:
    """Which samples are bad pairs, copies of the sample before, and have a concept of the long tail."""

    bad: np.ndarray
    copy: np.ndarray
    tail: np.ndarray


def generate(folder: Path, count: int) -> Planted:
    """Captions with two words by Zipf's law; copies differ in capitals and marks. DuckDB writes `duplicates`."""
    dice = np.random.default_rng(0)
    share = 1 / np.arange(1, WORDS + 1)
    words = dice.choice(WORDS, (count, 2), p=share / share.sum())
    captions = [f"a photo of w{one} and w{other} no {id}" for id, (one, other) in enumerate(words.tolist())]
    copy, bad = np.arange(count) % 10 == 1, dice.random(count) < 0.2
    for id in np.flatnonzero(copy).tolist():
        captions[id], words[id] = captions[id - 1].upper() + "!", words[id - 1]
    cosine = dice.normal(np.where(bad, 0.16, 0.36), 0.05).astype(np.float32)
    ScoreTable.begin(folder, TableSource("data", f"{count}", "", count, ("data",)))
    for name, values in (("signals", captions), ("similarity", cosine)):
        (folder / name / "data").mkdir(parents=True)
        for start in range(0, count, PART):
            ids = range(start, min(start + PART, count))
            column = {"signals": "text", "similarity": "image_text"}[name]
            rows = pa.table({"id": list(ids), "key": [f"k{id}" for id in ids], column: values[ids.start : ids.stop]})
            pq.write_table(rows, folder / name / "data" / f"{start:012d}.parquet")
    (folder / "duplicates" / "data").mkdir(parents=True)
    plain = "regexp_replace(lower(text), '[^a-z0-9]', '', 'g')"
    first = f"id = min(id) OVER (PARTITION BY {plain}) AS first"
    duckdb.sql(
        f"COPY (SELECT id, key, {first} FROM '{folder}/signals/data/*.parquet') TO '{folder}/duplicates/data/0.parquet'"
    )
    often = Counter(word for pair in words.tolist() for word in set(pair))
    return Planted(bad, copy, np.array([min(often[one], often[other]) < TAIL for one, other in words.tolist()]))


def run(folder: Path, name: str, rules: Path, kill: str = "") -> tuple[float, float, str]:
    """Seconds, peak memory in MB, and what the command prints. `kill`: once a file of this pattern exists."""
    command = [sys.executable, "-m", "tercet", "curate", "select", str(folder), str(rules), "--out", name]
    begun = time.monotonic()
    with subprocess.Popen(
        [*command, "--workers", "1", "--memory", "300MB"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while kill and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if list(folder.glob(kill)):
                os.kill(process.pid, signal.SIGKILL)
        assert process.stdout
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert kill or process.returncode == 0, printed
    return time.monotonic() - begun, usage.ru_maxrss / 1000, printed


def quality(found: np.ndarray, planted: np.ndarray) -> str:
    both = (found & planted).sum()
    return f"precision {both / found.sum():.3f}, recall {both / planted.sum():.3f}"


@pytest.mark.long
def test_planted_faults_are_found_in_constant_memory(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    peaks = {}
    for count in (25_000, 100_000):
        planted = generate(tmp_path / str(count), count)
        seconds, peaks[count], printed = run(tmp_path / str(count), "clean", rules)
        print(f"\n{count:,} samples: {seconds:.0f} s, at most {peaks[count]:.0f} MB\n{printed}")
    decision = pq.read_table(tmp_path / "100000" / "clean" / "data").sort_by("id").to_pydict()
    why = np.array([reason or "" for reason in decision["why"]])
    bad, copies = (np.char.startswith(why, f"clean: {rule}") for rule in ("where", "duplicates"))
    seen = planted.copy & ~bad  # the first reason is told
    good = ~bad & ~planted.copy
    kept = np.array(decision["keep"])
    tail, head = (kept[good & side].mean() for side in (planted.tail, ~planted.tail))
    print(f"bad pairs: {quality(bad, planted.bad)}\ncopies: {quality(copies, seen)}")
    print(f"long tail: {100 * tail:.1f} % of it is kept, {100 * head:.1f} % of the rest")
    assert (bad & planted.bad).sum() / planted.bad.sum() > 0.95
    assert (bad & planted.bad).sum() / bad.sum() > 0.85
    assert (copies == seen).all()
    assert tail > 0.99
    assert head < 0.6
    assert peaks[100_000] < 1.5 * peaks[25_000]


@pytest.mark.long
def test_a_killed_selection_loses_nothing(tmp_path: Path) -> None:
    rules, folder = tmp_path / "rules.yaml", tmp_path / "scores"
    rules.write_text(RULES)
    generate(folder, 100_000)
    run(folder, "whole", rules)
    matched = ".killed/2/1-balance/matches/data-000000000000.parquet"
    run(folder, "killed", rules, kill=matched)
    assert not (folder / "killed" / "stages.json").exists()
    times = {path: path.stat().st_mtime_ns for path in (folder / ".killed").rglob("*.parquet") if path.name[0] != "."}
    assert folder / matched in times
    _, _, printed = run(folder, "killed", rules)
    assert re.search(r"matched \d{5} captions", printed.replace(",", ""))
    tables = [pq.read_table(folder / name / "data").sort_by("id") for name in ("whole", "killed")]
    assert tables[0].equals(tables[1])
    stages = [json.loads((folder / name / "stages.json").read_text())["stages"] for name in ("whole", "killed")]
    assert stages[0] == stages[1]
