"""Probes on a model and its towers, and reduced sets, through the Python API and the command line."""

import json
from pathlib import Path

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch.nn.functional import normalize

import tercet
from tercet.api.model import Model
from tercet.command import main
from tercet.eval.probes.probe import ProbeTask
from tests.tercet.api.boats import captioned


@pytest.fixture(autouse=True)
def labelled(home: Path) -> None:
    for name, numbers in (("known.csv", range(48)), ("new.csv", range(48, 60))):
        rows = [f'photos/{n}.png,"{captioned(n)}",{("boat", "car")[n % 2]}' for n in numbers]
        (home / name).write_text("\n".join(["path,caption,label", *rows]) + "\n")


def task(home: Path, **options: object) -> str:
    keys = {"kind": "knn", "title": "Boats", "modalities": ["image"], "neighbours": 5, **options}
    (home / "boats.yaml").write_text(json.dumps(keys))
    return "boats.yaml"


def test_a_probe_learns_from_other_data_and_from_the_outputs_of_towers(
    home: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_tower, by_joint = (
        tercet.evaluate(model, task(home, learn_from="known.csv", vectors=vectors), data="new.csv").results
        for vectors in ("tower", "joint")
    )
    assert [by_tower[0].n, by_joint[0].n] == [12, 12]
    assert by_joint[0].metadata["learned from"] == 48
    assert [one[0].metadata["vectors"] for one in (by_tower, by_joint)] == ["output of the tower", "joint space"]
    assert by_joint[0].value > 0.9  # red and blue are easy, even for a model that was not trained
    seen: list[torch.Tensor] = []

    def watch(one: ProbeTask, data, split):  # type: ignore[no-untyped-def]
        seen.append(data.vectors_nD)
        raise KeyboardInterrupt

    monkeypatch.setattr("tercet.eval.probes.knn.NearestNeighboursTask.probe", watch)
    monkeypatch.setattr("tercet.api.measured.trust", lambda table, task: None)  # which probes null models
    with pytest.raises(KeyboardInterrupt):
        tercet.evaluate(model, task(home, vectors="tower"), data="known.csv")
    expected = []
    hook = model.towers.tower("image").register_forward_hook(lambda module, given, found: expected.append(found))
    tercet.embed(model, "known.csv", out="again")
    hook.remove()
    torch.testing.assert_close(seen[0].float(), normalize(torch.cat(expected), dim=1), atol=1e-5, rtol=1e-4)


def test_a_reduced_set_is_written_and_evaluated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reduce = ["data", "reduce", "exported", "--data", "photos.csv", "--out", "small.json", "--queries", "6"]
    assert main([*reduce, "--hard-negatives", "3", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["queries"] == 6
    assert 9 <= counts["candidates"] < 48
    (home / "small.yaml").write_text("kind: reduced_retrieval\ntitle: Small\nfile: small.json\n")
    whole = tercet.evaluate("exported", "retrieval", data="photos.csv").results
    small = tercet.evaluate("exported", "small.yaml", data="photos.csv").results
    assert {one.n for one in small} == {6}
    assert {one.metadata["candidates"] for one in small} == {counts["candidates"]}
    assert [one.name for one in small] == [one.name for one in whole]
    assert main(["data", "reduce", "exported", "--data", "photos.csv", "--out", "x.json", "--queries", "0"]) == 2
    assert "a reduced set needs a reference model" in capsys.readouterr().err


def test_a_table_of_captions_alone_has_its_similarity_measured(home: Path) -> None:
    grades: list[object] = [5.0, 3.5, 1.0, 0.5, 4.0, "", 2.0, 1.5]
    rows = [f"a red boat {n},a {'red boat' if n % 2 else 'blue car'} {9 - n},{grade}" for n, grade in enumerate(grades)]
    (home / "pairs.csv").write_text("\n".join(["sentence1,sentence2,score", *rows, ",a boat,1"]) + "\n")
    model = tercet.load("exported")
    (spearman, pearson) = tercet.evaluate(
        model, "similarity", data={"source": "pairs.csv", "text": "sentence1", "max_bad": 0.5}
    )
    graded = [n for n, grade in enumerate(grades) if grade != ""]
    one, other = (
        normalize(model.towers.embed_text([text.split(",")[place] for text in rows]), dim=1)[graded] for place in (0, 1)
    )
    cosines, known = (one * other).sum(dim=1).tolist(), [float(str(grades[n])) for n in graded]
    assert spearman.n == 7
    assert spearman.value == pytest.approx(spearmanr(cosines, known).statistic)
    assert pearson.value == pytest.approx(pearsonr(cosines, known).statistic, abs=1e-5)
