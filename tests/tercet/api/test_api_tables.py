"""What tasks read from `.json` of shards, they read from the columns of a table as well, with the same results."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tercet
from tercet.command import main
from tercet.errors import UserError
from tests.tercet.outside import shard

COUNT = 12
TASKS = {
    "shapes": "{kind: zero_shot, title: S, what: shape, label: 'objects[0].shape', count: {objects: 1}, "
    "where: {fold: '1'}, classes: {boat: boat, car: car}, templates: ['a {class}']}",
    "near": "{kind: knn, title: N, fold: fold, neighbours: 2}",
    "graded": "{extends: retrieval, title: G, relevance: grades, further: [nDCG@5]}",
    "labels": "{kind: multi_label, title: L, what: thing, classes: {boat: boat, car: car}, templates: ['a {class}']}",
}
NAMES = ["multilingual_retrieval", "composition", *(f"{name}.yaml" for name in TASKS)]


def facts(number: int) -> dict[str, Any]:
    """The `.json` of a sample. Some have two German captions, no grades or no wrong captions."""
    shapes = ["boat", "car"][number % 2 :][:1] + ["car"] * (number % 5 == 0)
    german = [f"ein rotes Boot {number}", f"Boot {number}"] if number % 3 == 0 else f"ein Auto {number}"
    return {
        "captions": {"en": f"a red boat, {number}", "de": german},
        "class": shapes[0],
        "fold": number // 2 % 2,
        "objects": [{"shape": shape} for shape in shapes],
        "labels": shapes,
        **({"grades": {f"{(number + 1) % COUNT:05d}": 2, f"{number:05d}": 0.5}} if number % 4 else {}),
        **({"negatives": [{"kind": "swap", "text": f"a boat, red {number}"}]} if number % 4 != 1 else {}),
    }


def rows() -> list[dict[str, Any]]:
    return [{"key": f"{number:05d}", "image": f"photos/{number}.png", **facts(number)} for number in range(COUNT)]


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, rows())))


def write_csv(path: Path) -> None:
    """A column for each language, and JSON in cells with lists and objects."""
    flat = []
    for row in rows():
        spoken = {f"caption_{language}": given for language, given in row.pop("captions").items()}
        cells = {**row, **spoken}
        flat.append({name: json.dumps(one) if isinstance(one, list | dict) else one for name, one in cells.items()})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in flat for name in row)), restval="")
        writer.writeheader()
        writer.writerows(flat)


def write_parquet(path: Path) -> None:
    """Captions are a map, grades an object with the keys of all rows, and the pictures are in the table."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows()] for name in rows()[1] | rows()[3]}
    spoken = [
        [(name, [one] if isinstance(one, str) else one) for name, one in all_.items()] for all_ in columns["captions"]
    ]
    columns["captions"] = pa.array(spoken, pa.map_(pa.string(), pa.list_(pa.string())))
    columns["image"] = [{"bytes": Path(name).read_bytes(), "path": None} for name in columns["image"]]
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, dict[str, float]]:
    """Of the same data as shards."""
    for name, task in TASKS.items():
        (home / f"{name}.yaml").write_text(task)
    pictures = [(home / "photos" / f"{number}.png").read_bytes() for number in range(COUNT)]
    samples = ({"json": json.dumps(facts(n)).encode(), "png": data} for n, data in enumerate(pictures))
    shard(home / "same" / "0.tar", samples)
    with pytest.MonkeyPatch.context() as context:
        context.chdir(home)
        found = tercet.evaluate("exported", NAMES, {"source": "same", "captions": {"json.captions": 1}})
    return {one["task"]: one["metrics"] for one in found.to_json()}


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_a_table_gives_the_results_of_shards(
    write: Callable[[Path], None], expected: dict[str, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    name = write.__name__.replace("write_", "same.")
    write(Path(name))
    assert main(["eval", "exported", *NAMES, "--data", name, "--json"]) == 0
    found = {one["task"]: one["metrics"] for one in json.loads(capsys.readouterr().out)}
    assert set(found) == {"multilingual_retrieval", "composition", *TASKS}
    assert {"image→text, de R@1", "text→image, en R@1"} <= set(found["multilingual_retrieval"])
    for task, metrics in expected.items():
        assert found[task] == pytest.approx(metrics, abs=1e-12, nan_ok=True), task


def test_a_task_names_its_own_data(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a path from its folder, also in a task that another one extends; data of the command win."""
    folder = home / "own"
    folder.mkdir()
    (folder / "few.csv").write_text("image,caption\n" + "".join(f"../photos/{n}.png,number {n}\n" for n in range(5)))
    (folder / "few.yaml").write_text("{extends: retrieval, title: Few, data: few.csv}")
    (home / "heir.yaml").write_text("{extends: own/few.yaml, title: Heir}")
    (home / "other.yaml").write_text("{extends: retrieval, data: photos.csv}")
    (home / "lost.yaml").write_text("{extends: retrieval, data: none.csv}")
    assert main(["eval", "exported", "own/few.yaml", "heir.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["dataset"], one["task"]) for one in found] == [("few.csv", "few"), ("few.csv", "heir")]
    assert found[0]["metrics"] == found[1]["metrics"]
    given = tercet.evaluate("exported", "lost.yaml", "own/few.csv").to_json()
    assert given[0]["metrics"] == found[0]["metrics"]
    assert given[0]["hashes"] == found[0]["hashes"]
    assert {one.n for one in tercet.evaluate("exported", "own/few.yaml", "val.csv")} == {12}
    assert main(["eval", "exported", "lost.yaml"]) == 2
    assert "task `lost`: its `data`, none.csv, does not exist" in capsys.readouterr().err
    several = tercet.evaluate("exported", ["own/few.yaml", "other.yaml"]).to_json()
    assert [(one["dataset"], one["task"]) for one in several] == [("few.csv", "few"), ("photos.csv", "other")]
    assert several[0]["metrics"] == found[0]["metrics"]
    with pytest.raises(UserError, match="exported has no validation data of its own; name data to evaluate it on"):
        tercet.evaluate("exported", ["own/few.yaml", "retrieval"])
