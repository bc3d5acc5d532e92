"""`tercet.mine` and `tercet data mine`: what they write can be read back, and their options are those of the config."""

import csv
import json
import shlex
from pathlib import Path

import pytest

import tercet
from tercet.api.model import Model
from tercet.command import main, mining
from tercet.command.arguments import parse
from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.composition import NeighborsConfig
from tercet.data_pipelines.plans.graph import read_graph
from tercet.data_pipelines.sources.open import open_source
from tercet.errors import UserError
from tercet.training.mining.config import FORMATS, MiningConfig


def test_the_command_writes_a_graph_a_table_and_a_summary(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "data mine exported --data photos.csv --out mined --from image --to text --output-format n-tuple --json"
    assert main(shlex.split(f"{command} --output-scores --table mined/rows.csv --num-negatives 4")) == 0
    printed, kept = json.loads(capsys.readouterr().out), json.loads((home / "mined/mining.json").read_text("utf-8"))
    assert kept == {"model": "exported", **printed}
    (found,) = printed["sources"]
    assert (found["from"], found["to"], found["samples"], found["short"]) == ("image", "text", 48, 0)
    table = tercet.embed("exported", "photos.csv").table()
    graph = read_column(home / "mined", found["fingerprint"])
    with (home / "mined/rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(graph.id_n) == 48
    for id, row, others in zip(graph.id_n.tolist(), rows, graph.values["neighbors"].tolist(), strict=True):
        assert Path(row["anchor"]) == Path("photos.csv").parent / f"photos/{id}.png"
        texts = [table.samples[other].text[0] for other in (id, *others)]
        assert [row["positive"], *(row[f"negative_{number}"] for number in range(1, 5))] == texts
        scores = [float(table.vectors["image"][id] @ table.vectors["text"][other]) for other in (id, *others)]
        assert json.loads(row["scores"]) == pytest.approx(scores, abs=1e-5)


def test_the_tables_for_people_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split("data mine exported --data photos.csv --out other --range-min 2 --max-score 0.999")) == 0
    printed = capsys.readouterr().out
    assert "photos.csv · image → image · 48 samples" in printed
    rows = {line.split("  ")[0].strip(): line.split() for line in printed.splitlines() if "%" in line}
    counts = {name: int(cells[-3].replace(",", "")) for name, cells in rows.items() if cells[-1].endswith("%")}
    assert counts["compared"] == 48 * 47
    assert counts["range_min 2"] == -48 * 2
    assert sum(counts.values()) == 2 * counts["negatives"]


def test_batches_of_neighbours_take_the_graph(model: Model, tmp_path: Path) -> None:
    """With margins as well, which need the scores of positives."""
    found = tercet.mine(model, "photos.csv", tmp_path, to="text", range_max=20, num_negatives=20)
    column = read_column(tmp_path, found.sources[0].about.fingerprint)
    source = open_source("photos.csv")
    whole = read_graph(NeighborsConfig(graph=str(tmp_path)), source)
    assert whole.neighbor_Nk.tolist() == column.values["neighbors"].tolist()
    some = read_graph(NeighborsConfig(graph=str(tmp_path), absolute_margin=0.001), source)
    below = column.values["scores"] <= column.values["positive"][:, None] - 0.001
    assert some.count_N.tolist() == below.sum(axis=1).tolist()
    assert 0 < below.sum() < below.size


def test_several_sources_are_mined_each_for_itself(model: Model, tmp_path: Path) -> None:
    both = {"val": {"photos": {"source": "photos.csv"}, "others": {"source": "val.csv"}}}
    found = tercet.mine(model, both, tmp_path / "both", output_format="triplet", num_negatives=2)
    assert [(one.about.name, one.samples) for one in found.sources] == [("photos", 48), ("others", 12)]
    lines = (tmp_path / "both/negatives.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2 * (48 + 12)
    alone = tercet.mine(model, "val.csv", tmp_path / "alone", num_negatives=2)
    graphs = [read_column(one.graph, alone.sources[0].about.fingerprint) for one in (found, alone)]
    assert graphs[0].values["neighbors"].tolist() == graphs[1].values["neighbors"].tolist()


def test_the_command_has_the_options_of_the_config() -> None:
    fields = MiningConfig.model_fields
    assert sorted(mining.OPTIONS) == sorted(fields)
    assert mining.CHOICES["output_format"][0] == FORMATS


def test_mistakes_are_named(model: Model) -> None:
    with pytest.raises(UserError, match="the model encodes no picture; "):
        tercet.mine(model, "photos.csv", "wrong", query="picture")
    with pytest.raises(UserError, match="photos has files that are not a neighbour graph; name a new or an empty fo"):
        tercet.mine(model, "photos.csv", "photos")
    with pytest.raises(UserError, match="the data hold no audio; "):
        tercet.mine(model, "photos.csv", "wrong", to="audio")
    with pytest.raises(UserError, match=r"the table rows.txt is neither .jsonl nor .csv; name it rows.jsonl"):
        tercet.mine(model, "photos.csv", "wrong", output_format="triplet", table="rows.txt")
    with pytest.raises(UserError, match=r"the table rows.csv needs a format; give output_format as well"):
        tercet.mine(model, "photos.csv", "wrong", table="rows.csv")
    with pytest.raises(UserError, match="mining: unknown key `margin`; known: absolute_margin, "):
        tercet.mine(model, "photos.csv", "wrong", margin=0.1)
    with pytest.raises(UserError, match="`text=…` says how data are read; name the data: --data D"):
        mining.mine(parse(shlex.split("data mine exported text=title --out wrong")))
