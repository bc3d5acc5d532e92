"""`tercet.evaluate`, `tercet.compare` and the self-test: their arguments, and how their results print."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

import tercet
from tercet.api.model import Model
from tercet.command import main
from tercet.errors import UserError
from tercet.eval.trust.self_test import THOROUGH, self_test


def test_results_print_as_text_and_as_html(model: Model) -> None:
    """In a notebook, too, where a console would write elsewhere; names are not taken for markup."""
    found, compared = (
        tercet.index(model, "photos.csv").search("<b>red</b>", k=2),
        tercet.compare(model, "exported", data="val.csv"),
    )
    with patch("rich.console._is_jupyter", return_value=True):
        assert f"{found[0].score:.3f}   {found[0].path}" in repr(found)
        assert re.search(r"exported against exported · val\.csv\n.*undecided", repr(compared), re.DOTALL)
    assert "<b>&lt;b&gt;red&lt;/b&gt;</b>" in found._repr_html_()
    assert f">{found[1].path}</td>" in found._repr_html_()
    rows = re.findall(
        r">val\.csv · (.*?)</th>\s*<th.*?>(.*?)</th>.*?<td><b>0.0</b></td>", compared._repr_html_(), re.DOTALL
    )
    assert rows[0] == ("image→text", "R@1 %")
    assert compared.to_json()["against"]["exported"][0]["verdict"] == "undecided"
    store = tercet.embed(model, "val.csv")
    assert repr(store) == f"Store({store.folder}: image 12 × 16, text 12 × 16; 0 samples left out)"
    assert repr(store.table()) == "EmbeddingTable(12 samples: image [12, 16], text [12, 16])"


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda: tercet.load(3), "the model is of type int; give a run, an exported folder, "),
        (lambda: tercet.train("finetune_clip", batchsize=3), "tercet.train: unknown key `batchsize`; did you mean"),
        (lambda: tercet.train("finetune_clip", optimizer={"lr": "x"}), "tercet.train: `optimizer.lr` is `x`"),
        (lambda: tercet.train("finetune_clip", plugins="mine.txt"), "/mine.txt: no such Python file"),
        (lambda: tercet.index("exported", 3), "data is of type int; give a path, a list of paths, or a mapping"),
        (lambda: tercet.index("exported", {"image": "path"}), "data: `source` is missing"),
        (lambda: tercet.embed("exported", "val.csv", out="photos.csv"), "photos.csv is a file"),
        (lambda: tercet.compare("exported", data="val.csv"), "nothing to compare exported with"),
        (lambda: tercet.evaluate("exported", "zero_shot", "val.csv", labels="boat"), "`boat` is a text; write"),
        (
            lambda: tercet.evaluate("exported", "zero_shot", "val.csv", ["boat", "car"], templates="a {}"),
            "the template `a {}` has no place for the class",
        ),
    ],
)
def test_wrong_arguments_are_errors_of_one_line(ask: Callable[[], object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        ask()


def test_data_may_be_several_tables_and_templates_a_single_one(model: Model) -> None:
    assert len(tercet.index(model, ["photos.csv", Path("val.csv")])) == 60
    asked = [
        tercet.evaluate(model, "zero_shot", data, ["boat", "car"], templates=templates)
        for data, templates in [("val.csv", "a {class}"), ({"val": {"new": "val.csv"}}, ["a {class}"])]
    ]
    assert [one.value for one in asked[0]] == [one.value for one in asked[1]]
    assert asked[1][0].dataset == "new"


def test_labels_with_another_task_than_zero_shot_are_refused(model: Model) -> None:
    with pytest.raises(UserError, match="labels are the classes of the task `zero_shot`"):
        tercet.evaluate(model, "retrieval", data="val.csv", labels=["boat"])


def test_the_self_test_prints_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "exported", "--data", "val.csv", "--self-test"]
    fewer = partial(self_test, effort=replace(THOROUGH, draws=(16, 40)))
    with patch("tercet.api.evaluate.run_self_test", fewer):
        assert main(command) == 0
        assert "holds" in capsys.readouterr().out
        with patch("tercet.eval.ranking.ranking.TIE", -1e-6):
            assert main(command) == 1
    assert "wrong: image→text, text→image" in " ".join(capsys.readouterr().out.split())
