"""Sentences that say whether a number is above chance and above the shortcuts, wherever numbers are shown."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tercet.eval.report.write import write_report
from tercet.eval.result import Result, from_json, to_json
from tercet.eval.tables.table import table_text
from tercet.eval.tables.verdict import verdict

NOTHING = "nothing shows that the model has learned to do this (n = 177)"
RIDGE = {"ridge on simple features": 0.123, "ridge on random towers": 0.05}


def result(value: float, low: float, high: float, chance: float, metric: str = "R@1", **more: Any) -> Result:
    named = {"task": "retrieval", "title": "Retrieval", "dataset": "val"}
    return Result("image→text", metric, value, low, high, chance, 177, **(named | more))


FAILS = "is not distinguishable from"
LARGEST = "the share of the largest class (30.0 %)"
UNEVEN, EVEN = {"metadata": {"majority": 0.3}}, {"metadata": {"majority": 0.1}}

CASES = [
    (result(0.239, 0.18, 0.3, 0.006), "R@1 23.9 % is above chance (0.6 %)"),
    (result(0.06, 0.048, 0.09, 0.048), f"R@1 6.0 % {FAILS} chance (4.8 %): {NOTHING}"),
    (result(0.0, 0.0, 0.0, 0.048), f"R@1 0.0 % {FAILS} chance (4.8 %): {NOTHING}"),
    (result(12, 9, 20, 89, "median rank"), "median rank 12 is above chance (89)"),
    (result(60, 40, 89, 89, "mean rank"), f"mean rank 60 {FAILS} chance (89): {NOTHING}"),
    (result(0.5, 0.45, 0.55, 1 / 7, "acc1", **UNEVEN), f"top-1 50.0 % is above {LARGEST}"),
    (result(0.31, 0.25, 0.35, 1 / 7, "acc1", **UNEVEN), f"top-1 31.0 % {FAILS} {LARGEST}: {NOTHING}"),
    (result(0.2, 0.18, 0.3, 1 / 7, "acc1", **EVEN), "top-1 20.0 % is above chance (14.3 %)"),
    (
        result(0.239, 0.18, 0.3, 0.006, shortcuts=RIDGE),
        "R@1 23.9 % is above chance (0.6 %), and above ridge on simple features (12.3 %)",
    ),
    (
        result(0.139, 0.1, 0.2, 0.006, shortcuts=RIDGE),
        "R@1 13.9 % is above chance (0.6 %), but not above ridge on simple features (12.3 %)",
    ),
    (
        result(0.0, 0.0, 0.0, 0.006, shortcuts=RIDGE),
        f"R@1 0.0 % {FAILS} chance (0.6 %): {NOTHING}; ridge on simple features reaches 12.3 %",
    ),
]


@pytest.mark.parametrize(("one", "words"), CASES)
def test_a_number_is_above_chance_where_its_whole_interval_is(one: Result, words: str) -> None:
    judged, above = verdict(one), "is above" in words
    assert (judged.words, judged.above_chance) == (f"image→text {words}", above)
    assert judged.sign == ("failed" if not above else "level" if "but not above" in words else "above")
    (written,) = json.loads(json.dumps(to_json([one], "model")))
    assert written["details"][one.name]["above_chance"] is above
    assert from_json([written]) == [one]


def test_a_score_without_interval_and_chance_gets_no_sentence() -> None:
    one = Result("Flowers", "accuracy", 0.75, None, None, None, None, "ImageClassification", "Pictures", "suite")
    assert repr(one) == "Flowers accuracy: 0.75 (no interval)"
    title, *_, row = table_text([one]).strip().splitlines()
    assert (title, row.split()) == ("Pictures · suite", ["Flowers", "75.0", "–", "–", "–"])
    (written,) = json.loads(json.dumps(to_json([one], "model")))
    assert written["details"][one.name]["interval"] == [None, None]
    assert from_json([written]) == [one]


def test_json_has_null_for_an_end_without_a_bound() -> None:
    one = Result("letter from image", "log loss", 0.7, 0.0, inf, 2.3, 1)
    (written,) = json.loads(json.dumps(to_json([one], "model"), allow_nan=False))
    assert written["details"][one.name]["interval"] == [0.0, None]
    assert from_json([written]) == [one]


def test_table_and_report_show_the_verdict_once_for_each_row(tmp_path: Path) -> None:
    good, bad = CASES[0][0], CASES[1][0]
    found = [good, Result(**{**vars(bad), "subject": "text→image"}), Result(**{**vars(good), "metric": "R@5"})]
    sentences = [verdict(one).words for one in found[:2]]
    lines = [line for line in table_text(found, 140).splitlines() if "chance (" in line]
    assert lines == sentences
    page = write_report(tmp_path, "run", found).read_text()
    for kind, words in zip(("above", "failed"), sentences, strict=True):
        assert page.count(f'<li class="{kind}">{words.replace("→", " → ")}</li>') == 1


def test_of_many_rows_one_sentence_names_the_failures() -> None:
    good, bad = vars(CASES[0][0]), vars(CASES[1][0])
    rows = [Result(**{**(bad if at == 3 else good), "subject": f"image, {at}"}) for at in range(8)]
    lines = [line for line in table_text(rows, 140).splitlines() if "chance" in line]
    assert lines[1:] == ["7 of 8 results are above chance; not distinguishable from it: image, 3 (6.0 %)"]
    assert "all 7 results are above chance" in table_text([row for row in rows if row.above_chance])
