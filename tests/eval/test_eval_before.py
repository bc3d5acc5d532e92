"""Numbers from before training beside those from after it, and the line between the two."""

import pytest

from tercet.eval.report.curves import line_of_weights
from tercet.eval.result import Result, from_json, to_json
from tercet.eval.tables.table import table_text


def result(subject: str, value: float, split: str = "val", before: float | None = None, metric: str = "R@1") -> Result:
    return Result(subject, metric, value, value, value, 0.1, 40, "retrieval", "Retrieval", split, before=before)


def test_the_column_before_is_shown_only_with_earlier_results() -> None:
    lines = table_text([result("a→b", 0.5, before=0.25), result("b→a", 0.75)]).splitlines()
    assert next(line.split()[:2] for line in lines if "R@1" in line) == ["before", "R@1"]
    assert [line.split()[:3] for line in lines if "→" in line and "chance" not in line] == [
        ["a→b", "25.0", "50.0"],
        ["b→a", "–", "75.0"],
    ]
    assert "before" not in table_text([result("a→b", 0.5)])


def test_earlier_results_are_written_and_read_back() -> None:
    results = [result("a→b", 0.5, before=0.25), result("b→a", 0.75)]
    assert [one.before for one in from_json(to_json(results, "model"))] == [0.25, None]


def test_a_line_for_every_split_shows_the_mean_of_the_first_metric() -> None:
    curve = {
        alpha: [
            result("a→b", 0.2 + alpha / 2),
            result("b→a", 0.4),
            result("a→b", 0.9, metric="R@5"),
            result("a→b", 0.6 - alpha / 2, "new"),
        ]
        for alpha in (1.0, 0.0, 0.5)
    }
    (chart,) = line_of_weights(curve)
    assert [line.name for line in chart.lines] == ["Retrieval · val · R@1 %", "Retrieval · new · R@1 %"]
    lines_drawn = [[(alpha, float(value)) for _, _, alpha, value in line.points] for line in chart.lines]
    assert lines_drawn == [
        [(0.0, 30.0), (0.5, pytest.approx(42.5)), (1.0, 55.0)],
        [(0.0, 60.0), (0.5, pytest.approx(35.0)), (1.0, 10.0)],
    ]
    places = [[x for x, _, _, _ in line.points] for line in chart.lines]
    assert places[0] == sorted(places[0]) == places[1]
    assert line_of_weights({}) == []
