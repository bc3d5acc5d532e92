"""The charts of the report: curves of the run, measures of the embedding space, selection and held-out results."""

import json
import re
from pathlib import Path

import pytest

from tercet.eval.report.analysis import MEASURES, analysis_charts
from tercet.eval.report.curves import chart, charts, read_lines
from tercet.eval.report.held_out import held_out_chart
from tercet.eval.report.selection import selection_charts
from tercet.eval.report.write import write_report
from tercet.eval.result import Result, to_json
from tests.eval.reported import metrics, selection
from tests.tercet.parsed import HOSTILE, Page


def test_curves_pass_through_the_recorded_values(tmp_path: Path) -> None:
    metrics(tmp_path / "metrics.jsonl")
    records = read_lines(tmp_path / "metrics.jsonl")
    assert len(records) == 40
    (loss,) = charts(records)
    assert [line.name for line in loss.lines] == ["all", "image-text"]
    assert [len(line.points) for line in loss.lines] == [40, 39]
    left, top, right, bottom = loss.area.frame
    (zero, zero_words), *_, (six, six_words) = loss.y_ticks
    assert (zero_words, six_words, zero, six) == ("0", "6", bottom, top)
    for line, peak in zip(loss.lines, (6, 2), strict=True):
        for x, y, step, _ in line.points:
            assert x == pytest.approx(left + (step - 1) / 39 * (right - left), abs=0.06)
            assert y == pytest.approx(bottom - peak / step / 6 * (bottom - top), abs=0.06)


def test_each_measure_of_the_embedding_space_has_a_chart_of_the_steps_that_have_it(report: Path) -> None:
    """Those that are always zero have none."""
    drawn = analysis_charts(read_lines(report.parent / "metrics.jsonl"))
    told = {
        one.title: {line.name: [(step, float(value)) for _, _, step, value in line.points] for line in one.lines}
        for one in drawn
    }
    steps = (10, 20, 30, 40)
    assert told == {
        "Alignment": {
            "image-text": [(step, pytest.approx(20 / step, rel=1e-2)) for step in steps],
            f"{HOSTILE}/alignment": [(step, pytest.approx(1 + 20 / step, rel=1e-2)) for step in steps],
        },
        "Uniformity": {"image": [(step, -step / 10) for step in steps]},
    }
    page = Page(report.read_text())
    assert [note for _, _, note in MEASURES if note in page.text] == [note for _, _, note in MEASURES[:2]]
    assert "Embedding space" in page.text


def test_a_selection_has_charts_and_samples_that_were_chosen_and_left(report: Path) -> None:
    drawn = selection_charts(read_lines(report.parent / "metrics.jsonl"))
    assert [(one.title, [line.name for line in one.lines]) for one in drawn] == [
        ("Learnability", ["chosen", "left"]),
        ("Known bad samples", ["chosen", "drawn"]),
    ]
    assert [(step, float(value)) for _, _, step, value in drawn[1].lines[0].points][:2] == [(1, 0.5), (2, 0.25)]
    (step,) = selection()
    assert [(one.score, one.bad, len(one.exhibits)) for one in step.chosen] == [(2.5, False, 3), (1.5, True, 3)]
    assert "number 1" in step.chosen[0].exhibits[2].text
    text = re.sub(r"\s+", " ", Page(report.read_text()).text)
    assert re.search(r"Step 7 Chosen number 1 .* learnability 2.50 .*known bad learnability 1.50 Left .* -0.50", text)
    assert text.count("known bad") == 1


def test_the_held_out_curve_is_beside_the_loss_curve(tmp_path: Path) -> None:
    """The mean over the subjects of the first task, a line for each split, and chance."""
    metrics(tmp_path / "metrics.jsonl")
    with (tmp_path / "evaluations.jsonl").open("w") as lines:
        for step in (20, 40):
            splits = [(name, subject) for name in ("val", HOSTILE) for subject in ("a→b", "b→a")]
            found = [
                Result(
                    subject, metric, 0.01 * step / len(name) / len(metric), 0.1, 0.9, 0.05, 90, "retrieval", "R", name
                )
                for name, subject in splits
                for metric in ("R@1", "R@10")
            ]
            other = Result("a", "acc1", 0.9, 0.8, 1.0, 0.1, 90, "zero_shot", "Z", "val")
            print(json.dumps({"step": step, "results": to_json([*found, other], "run")}), file=lines)
    (drawn,) = held_out_chart(read_lines(tmp_path / "evaluations.jsonl"))
    assert drawn.title == "Held-out R@1 %"
    drawn_points = {line.name: [(step, float(value)) for _, _, step, value in line.points] for line in drawn.lines}
    rows = {
        name: [(step, pytest.approx(step / len(name) / 3, rel=1e-2)) for step in (20, 40)] for name in ("val", HOSTILE)
    }
    assert drawn_points == rows | {"chance": [(20, 5.0), (40, 5.0)]}
    page = Page(write_report(tmp_path, "run", found, warnings=[HOSTILE]).read_text())
    titles = re.findall(r"Loss|Held-out R@1 %", page.text)
    assert titles == ["Loss", "Held-out R@1 %"]
    assert page.open == []
    assert any(attributes.get("class") == "warning" for _, attributes in page.tags)
    assert held_out_chart(read_lines(tmp_path / "evaluations.jsonl")[:1]) == []


def test_curves_of_long_runs_are_averaged_to_few_points() -> None:
    records = [{"step": step, "lr": float(step % 2)} for step in range(1, 100_001)]
    (chart,) = charts(records)
    points = chart.lines[0].points
    assert len(points) <= 300
    assert points[-1][2] == 100_000
    assert {word for *_, word in points} <= {"0.5", "0.499", "0.501"}


@pytest.mark.parametrize("value", [0.0, 1e-4, 7.3, 10.0, -20.0])
def test_a_value_that_never_changes_has_an_axis(value: float) -> None:
    """Such as a fixed temperature."""
    drawn = chart("Inverse temperature", {"scale": [(1, value), (2, value)]})
    (low, low_words), *_, (high, high_words) = drawn.y_ticks
    assert low > high
    assert low_words != high_words
    assert all(high <= y <= low for _, y, *_ in drawn.lines[0].points)
