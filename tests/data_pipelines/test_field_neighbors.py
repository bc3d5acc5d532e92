"""A field of the captions of each sample's neighbours in a graph."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.configs.base import build
from tercet.data_pipelines import columns
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.columns import Column, read_values, write_column
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.fields import FieldConfig, FieldSpec, check_field, check_graphs, further_fields
from tercet.data_pipelines.sample import Batch, Sample
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError
from tests.data_pipelines.further import INTAKES, ITEMS, words
from tests.data_pipelines.further import shards as shards

NAME = "text.negative.mined"


def neighbors(id: int) -> list[int]:
    """Up to four others; sample 5 has none, and sample 6 is not in the graph."""
    return [] if id == 5 else [(id + step) % ITEMS for step in (3, 7, 11, 2)[: 1 + id % 4]]


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of ten ids, in this process."""
    monkeypatch.setattr(columns, "PIECE", 10)


@pytest.fixture
def graph(shards: Shards, tmp_path: Path) -> Path:
    ids = [id for id in range(ITEMS) if id != 6]
    rows = np.array([(neighbors(id) + [-1] * 4)[:4] for id in ids])
    write_column(tmp_path / "graph", shards.fingerprint, Column(np.array(ids), {"neighbors": rows}))
    return tmp_path / "graph"


def further(graph: Path, rows: int = 2) -> dict[str, FieldSpec]:
    config = build(FieldConfig, {"from": "neighbors", "graph": str(graph), "rows": rows}, lambda key: "fields")
    return further_fields([NAME], {NAME: config}, INTAKES)


def batches(shards: Shards, graph: Path, count: int, size: int = 8, **options: Any) -> list[Batch]:
    data = DataConfig.model_validate({"train": "here", "streams": 4, "window": 6, "workers": options.pop("workers", 0)})
    loader = Loader(data, {"train": shards}, INTAKES, size, seed=5, further=further(graph), **options)
    return list(islice(loader, count))


def rows_of(parts: list[Batch]) -> list[tuple[int, tuple[str, ...]]]:
    return [(int(id), tuple(words(part.fields[NAME], i))) for part in parts for i, id in enumerate(part.ids)]


@pytest.mark.usefixtures("in_pieces")
def test_a_row_is_a_caption_of_a_neighbour(shards: Shards, graph: Path) -> None:
    """In twelve epochs the captions of each neighbour appear, and no others; never two of one neighbour at once."""
    seen: dict[int, set[str]] = {id: set() for id in range(ITEMS)}
    for id, captions in rows_of(batches(shards, graph, 3 * 12)):
        owners = [int(caption.split()[1]) for caption in captions]
        assert len(captions) == len(set(owners)) == (0 if id == 6 else min(2, len(neighbors(id))))
        seen[id].update(captions)
    for id, found in seen.items():
        known = {f"{word} {other}" for other in neighbors(id) if id != 6 for word in ("one", "two", "three")}
        assert found <= known
        assert len(found) >= 0.7 * len(known)


def test_rows_do_not_depend_on_ranks_or_workers_or_a_resume(shards: Shards, graph: Path) -> None:
    alone = rows_of(batches(shards, graph, 6))
    assert rows_of(batches(shards, graph, 6, workers=1)) == alone
    ranks = [batches(shards, graph, 6, rank=rank, world=2) for rank in (0, 1)]
    assert sorted(rows_of([part for parts in ranks for part in parts])) == sorted(alone)
    resumed = batches(shards, graph, 4, start=batches(shards, graph, 2)[-1].cursors)
    assert rows_of(resumed) == alone[16:]


@pytest.mark.usefixtures("in_pieces")
def test_evaluation_takes_the_best_neighbours(shards: Shards, graph: Path) -> None:
    decode = Decoder(shards, INTAKES, SplitConfig(source="here"), further=further(graph, rows=3))
    for id, sample in enumerate(decode(range(ITEMS), [CentreView()] * ITEMS)):
        assert isinstance(sample, Sample)
        expected = [] if id == 6 else [f"one {other}" for other in neighbors(id)[:3]]
        assert list(sample.captions(NAME)) == expected


def test_a_neighbour_that_cannot_be_read_gives_no_row(
    shards: Shards, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = type(shards).read

    def damaged(self: Shards, ids: Any, wanted: Any) -> Any:
        files = read(self, ids, wanted)
        return [BadSample("damaged") if id == 14 else one for id, one in zip(ids, files, strict=True)]

    monkeypatch.setattr(type(shards), "read", damaged)
    decode = Decoder(shards, INTAKES, SplitConfig(source="here"), further=further(graph, rows=4))
    bad, eleven = decode([14, 11], [CentreView()] * 2)
    assert isinstance(bad, BadSample)
    assert isinstance(eleven, Sample)
    assert neighbors(11) == [14, 18, 22, 13]
    assert eleven.captions(NAME) == ("one 18", "one 22", "one 13")


@pytest.mark.usefixtures("in_pieces")
def test_values_are_read_by_id(graph: Path, shards: Shards) -> None:
    """From files in which samples are missing, and from those in which none is."""
    found = read_values(graph, shards.fingerprint, "neighbors", [23, 0, 6, 7, 5, 13, 400])
    assert {id: [one for one in row.tolist() if one >= 0] for id, row in found.items()} == {
        id: neighbors(id) for id in (23, 0, 7, 5, 13)
    }


def test_a_graph_of_other_data_is_refused(shards: Shards, graph: Path, tmp_path: Path) -> None:
    def opened(folder: Path) -> None:
        Decoder(shards, INTAKES, SplitConfig(source="here"), further=further(folder))

    write_column(tmp_path / "other", "0a1b", Column(np.arange(3), {"neighbors": np.zeros((3, 1), np.int64)}))
    with pytest.raises(UserError, match=r"other has no neighbours of .* as this run reads it; mine exactly these data"):
        opened(tmp_path / "other")
    write_column(tmp_path / "scores", shards.fingerprint, Column(np.arange(3), {"scores": np.zeros((3, 1))}))
    with pytest.raises(UserError, match="scores has no `neighbors`, so it is not a neighbour graph; write one with"):
        opened(tmp_path / "scores")
    write_column(tmp_path / "large", shards.fingerprint, Column(np.arange(3), {"neighbors": np.full((3, 1), ITEMS)}))
    with pytest.raises(UserError, match=f"large names the id {ITEMS}, which is not among the {ITEMS} samples"):
        opened(tmp_path / "large")
    config = FieldConfig.model_validate({"from": "neighbors", "graph": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match=rf"fields.{NAME}.graph: the folder .*nowhere does not exist; write a graph"):
        check_graphs({NAME: config})


MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no graph": (NAME, {"from": "neighbors"}, f"`fields.{NAME}.graph` is missing: name the folder"),
    "name": (
        "text.mined",
        {"from": "neighbors", "graph": "g"},
        "`fields.text.mined` holds captions of other samples, so its name needs the part `negative`, as "
        "text.negative.mined",
    ),
    "idle": ("text.more", {"from": "text", "graph": "g"}, "`fields.text.more.graph` applies to `from: neighbors` only"),
    "pictures": ("image.negative", {"from": "neighbors", "graph": "g"}, "cannot fill a field of image"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    name, values, message = MISTAKES[mistake]
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the message is compared below
        check_field(name, FieldConfig.model_validate(values))
    assert message in str(raised.value)
