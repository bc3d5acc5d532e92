"""Several models on several datasets in one evaluation: one table, in every format, and what is missing from it."""

import csv
import gc
import io
import json
import re
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import tercet
from tercet.api import measured
from tercet.command import main
from tercet.command.options import datasets
from tercet.errors import UserError
from tercet.eval.tables.table import plain_text
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tests.tercet.api.boats import SPACE

COMMAND = ["eval", "exported", "retrieval", "zero_shot", "--labels", "boat,car", "--model", "other"]
COMMAND += ["--data", "val.csv", "--data", "big=photos.csv", "--embeddings", "kept"]


@pytest.fixture(scope="module", autouse=True)
def models(home: Path) -> None:
    """A model of the same towers with other weights, and one without pictures."""
    config = SpaceConfig.model_validate(SPACE)
    export_folder(build_model(config.model, config.terms, seed=4), config, home / "other")
    towers = {name: tower for name, tower in SPACE["model"].items() if name != "image"}
    heard = SpaceConfig.model_validate({"model": towers, "pairs": {"audio-text": 1.0}})
    export_folder(build_model(heard.model, heard.terms, seed=3), heard, home / "heard")


def test_one_command_evaluates_all_models_on_all_data_in_every_format(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "--format", "csv", "--out", "results.json"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(line["model"], line["dataset"]) for line in lines} == {
        (model, dataset) for model in ("exported", "other") for dataset in ("val.csv", "big")
    }
    assert {line["task"] for line in lines} == {"retrieval", "zero_shot"}
    written = json.loads(Path("results.json").read_text(encoding="utf-8"))
    in_json = {
        (one["model"], one["dataset"], one["task"], name): value
        for one in written
        for name, value in one["metrics"].items()
    }
    in_csv = {
        (line["model"], line["dataset"], line["task"], f"{line['subject']} {line['metric']}"): float(line["value"])
        for line in lines
    }
    assert in_csv == in_json
    for model in ("exported", "other"):
        alone = tercet.evaluate(model, ["retrieval", "zero_shot"], {"source": "photos.csv"}, ["boat", "car"])
        for one in alone:
            assert in_csv[model, "big", one.task, one.name] == pytest.approx(one.value)
    assert len(list(Path("kept/embeddings").iterdir())) == 4

    with patch("tercet.eval.embedding.embed_data.embed_piece", side_effect=AssertionError("embedded again")):
        assert main([*COMMAND, "--format", "markdown", "--out", "results.csv"]) == 0
    table, note = capsys.readouterr().out.split("\n\n")
    assert note == "in brackets: 95 % intervals; °: not distinguishable from chance\n"
    header, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert header == ["data", "subject", "metric", "chance", "exported", "other"]
    assert len(rows) == len({tuple(one[key] for key in ("dataset", "task", "subject", "metric")) for one in lines})
    shown = {(data.partition(" · ")[0], subject, metric): values for data, subject, metric, _, *values in rows}
    for model, value in zip(("exported", "other"), shown["big", "image→text", "R@1 %"], strict=True):
        number, low, high = map(float, re.findall(r"[\d.]+", value))
        found = next(one for one in lines if (one["model"], one["dataset"], one["metric"]) == (model, "big", "R@1"))
        assert (number, low, high) == tuple(round(100 * float(found[key]), 1) for key in ("value", "low", "high"))
    assert list(csv.DictReader(io.StringIO(Path("results.csv").read_text(encoding="utf-8")))) == lines


def test_one_model_is_in_memory_at_a_time() -> None:
    """When a model is loaded, nothing holds those before it."""
    genuine, alive = measured.load, []

    def watched(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        assert not any(one() for one in alive)
        found = genuine(*arguments, **options)
        alive.append(weakref.ref(found.towers))
        return found

    with patch.object(measured, "load", side_effect=AssertionError("loaded a model before a mistake was found")):
        for mistake in (
            lambda: tercet.evaluate(["exported", "no"], data="val.csv"),
            lambda: tercet.compare("other", "no", data="val.csv"),
        ):
            with pytest.raises(UserError, match="there is no model `no`"):
                mistake()
    with patch.object(measured, "load", watched):
        tercet.evaluate(["exported", "other", "heard"], data={"a": "val.csv", "b": "photos.csv"})
        assert len(alive) == 3
        alive.clear()
        tercet.compare("exported", "other", "exported", data="val.csv")


def test_the_table_prints_in_the_terminal_and_in_a_notebook() -> None:
    found = tercet.evaluate(["exported", "other"], data={"a": "val.csv", "b": {"source": "photos.csv"}})
    assert [len(each.datasets) for each in found.values()] == [2, 2]
    printed = repr(found)
    assert re.search(r"chance +exported +other", printed)
    assert [line.strip() for line in printed.splitlines() if " · Retrieval" in line] == [
        "a · Retrieval",
        "b · Retrieval",
    ]
    row = next(line for line in printed.splitlines() if "text→image · R@1 %" in line)
    value = 100 * found["other"]["text→image R@1"].value
    assert row.split()[-2].rstrip("°") == f"{value:.1f}"
    for width, intervals in ((100, True), (60, False), (40, False)):
        narrow = plain_text(found.drawn(), width)
        assert ("95 % intervals" in narrow) == intervals
        assert "…" not in narrow
        assert {"exported", "other"} <= set(narrow.split())
    assert "<th>other</th>" in found._repr_html_()
    assert "a · Retrieval" in repr(found["other"])


def test_what_a_model_cannot_read_is_a_warning_among_several_and_an_error_alone() -> None:
    found = tercet.evaluate(["exported", "heard"], data="val.csv")
    assert len(found["heard"]) == 0
    (warning,) = found.warnings
    assert warning.startswith("heard was not evaluated on val.csv: the model encodes audio and text, and val.csv holds")
    (entry,) = [one for one in found.to_json() if "error" in one]
    assert (entry["model"], entry["dataset"], entry["metrics"]) == ("heard", "val.csv", {})
    with pytest.raises(UserError, match="heard was not evaluated on a: the model encodes audio and text"):
        tercet.evaluate("heard", data={"a": "val.csv", "b": "photos.csv"})
    with pytest.raises(UserError, match=r"^the model encodes audio and text"):
        tercet.evaluate("heard", data="val.csv")
    with pytest.raises(UserError, match="the model exported is named twice"):
        tercet.evaluate(["exported", "exported"], data="val.csv")


def test_results_name_the_weights_the_data_and_the_prompts_that_they_depend_on() -> None:
    def hashes(model: str, data: str, *labels: str) -> dict[str, str]:
        (found,) = tercet.evaluate(model, "zero_shot", data, labels).to_json()
        given: dict[str, str] = found["hashes"]  # type: ignore[assignment]
        return given

    first, again = (hashes("exported", "val.csv", "boat", "car") for _ in range(2))
    assert first == again
    assert first.keys() == {"weights", "data", "task", "classes", "prompts"}

    def changed(other: dict[str, str]) -> set[str]:
        return {name for name, value in other.items() if value != first[name]}

    assert changed(hashes("other", "val.csv", "boat", "car")) == {"weights"}
    assert changed(hashes("exported", "photos.csv", "boat", "car")) == {"data"}
    assert changed(hashes("exported", "val.csv", "car", "boat")) == {"task", "classes", "prompts"}


def test_datasets_are_named_by_the_last_part_of_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x=y.csv").touch()
    assert datasets([]) is None
    assert datasets(["a/val.csv"]) == "a/val.csv"
    assert datasets(["x=y.csv"]) == "x=y.csv"
    assert datasets(["coco=a/val.csv"]) == {"val": {"coco": {"source": "a/val.csv"}}}
    several = datasets(["a/val.csv", "b/val.csv", "c/wds/", "d=b/val.csv"])
    assert isinstance(several, dict)
    assert list(several["val"]) == ["a/val.csv", "b/val.csv", "wds", "d"]
    with pytest.raises(UserError, match="two datasets are named `d`"):
        datasets(["d=a.csv", "d=b.csv"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "results.txt"], "the ending says how results are written; "),
        (["--self-test", "--model", "other"], "--self-test takes one model"),
        (["--self-test", "--format", "csv"], "--self-test prints a table or JSON"),
        (["--json", "--format", "csv"], "not allowed with argument"),
        (["--format", "cvs"], "did you mean `csv`"),
    ],
)
def test_options_that_do_not_fit_are_errors_of_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "exported", "--data", "val.csv", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compared_models_are_written_as_csv_and_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", "exported", "other", "--data", "val.csv", "--data", "big=photos.csv"]
    assert main([*asked, "--format", "csv", "--out", "compared.md"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(lines) == 2 * 2 * 6
    assert {line["verdict"] for line in lines} == {"undecided"}
    assert all(float(line["p"]) <= float(line["p_holm"]) <= 1 for line in lines)
    assert len(Path("compared.md").read_text(encoding="utf-8").splitlines()) == 2 + len(lines)


def test_captions_alone_can_be_embedded(capsys: pytest.CaptureFixture[str]) -> None:
    Path("captions.csv").write_text("caption\na red boat\na blue car\n", encoding="utf-8")
    assert repr(tercet.embed("exported", "captions.csv").table()) == "EmbeddingTable(2 samples: text [2, 16])"
    assert main(["eval", "exported", "--data", "captions.csv"]) == 2
    assert "retrieval needs two modalities, and the data have only text" in capsys.readouterr().err


def test_models_are_compared_on_what_both_of_them_can_read_and_by_the_average_over_datasets() -> None:
    Path("captions.csv").write_text("caption\na red boat\na blue car\n", encoding="utf-8")
    Path("mean.yaml").write_text("{kind: group, average: true, tasks: [retrieval]}", encoding="utf-8")
    data = {"a": "val.csv", "b": "photos.csv", "c": "captions.csv"}
    compared = tercet.compare("exported", "other", data=data, tasks=["mean.yaml"])
    assert {one.dataset for one in compared["other"]} == {"a", "b", "all datasets"}
    (mean,) = [one for one in compared["other"] if one.metric == "average"]
    recalls = [one for one in compared["other"] if one.metric == "R@1"]
    assert mean.apart.value == pytest.approx(sum(one.apart.value for one in recalls) / len(recalls))
    assert compared.warnings == [
        f"{model} was not evaluated by retrieval on c: retrieval needs two modalities, and the data have only text"
        for model in ("exported", "other")
    ]
    assert compared.to_json()["not_evaluated"] == compared.warnings
