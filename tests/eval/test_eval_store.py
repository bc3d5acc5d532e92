"""Embeddings on disk: what evaluation would embed, whoever made the pieces, and made anew where something changed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.embedding.fingerprint import weights_digest
from tercet.eval.embedding.store import MANIFEST, Store
from tercet.eval.evaluator import Evaluator
from tercet.testing import on_ranks
from tests.eval.stored import MODEL, data, room, stored, tiny


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = WorldConfig(
        train=70, val=4, combinations=16, size=32, seconds=0.5, samples_per_shard=30, workers=1, missing={"audio": 0.3}
    )
    return generate(config, tmp_path_factory.mktemp("world")) / "train"


def on_a_rank(world: World, folder: Path, shards: Path) -> dict[str, torch.Tensor]:
    stored(folder, shards, world=world)
    return outputs_of_towers(world, shards)


def outputs_of_towers(world: World, shards: Path) -> dict[str, torch.Tensor]:
    """Of a table that the same model embeds again."""
    given = data(shards)
    table = Evaluator(given, EvalConfig(), world).table(tiny(), "val", given.val["val"])
    assert table.again is not None
    return table.again(str(shards), True).vectors


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def same_stores(first: Path, second: Path) -> None:
    """The same files with the same samples. Vectors agree up to rounding: ranks have threads of their own number."""
    names = [sorted(contents(folder)) for folder in (first, second)]
    assert names[0] == names[1]
    assert (first / MANIFEST).read_bytes() == (second / MANIFEST).read_bytes()
    for one, other in zip(Store(first).pieces(), Store(second).pieces(), strict=True):
        same(one.table, other.table)
        assert one.faults == other.faults


def same(first: EmbeddingTable, second: EmbeddingTable) -> None:
    assert first.vectors.keys() == second.vectors.keys()
    for name, rows in first.vectors.items():
        assert first.items[name].equal(second.items[name])
        assert torch.allclose(rows, second.vectors[name], atol=1e-6)
    assert [(one.key, one.id, one.group, one.text, one.meta) for one in first.samples] == [
        (one.key, one.id, one.group, one.text, one.meta) for one in second.samples
    ]


def test_the_store_holds_the_embeddings_of_evaluation_with_one_caption_each(shards: Path, tmp_path: Path) -> None:
    store = stored(tmp_path / "store", shards)
    evaluated = Evaluator(data(shards), EvalConfig(tasks=("retrieval",), captions=1), World())(tiny())
    same(store.table(), evaluated.tables["val"])
    assert store.facts["modalities"]["audio"]["rows"] < store.facts["modalities"]["image"]["rows"] == 70
    assert len(list(store.pieces())) == 5


def test_two_ranks_write_the_same_files_as_one(shards: Path, tmp_path: Path) -> None:
    stored(tmp_path / "one", shards)
    of_ranks = on_ranks(on_a_rank, 2, tmp_path / "two", shards)
    same_stores(tmp_path / "one", tmp_path / "two")
    alone = outputs_of_towers(World(), shards)
    assert {name: rows.shape[1] for name, rows in alone.items()} == dict.fromkeys(("image", "audio", "text"), 32)
    for found in of_ranks:
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)


def test_a_folder_with_other_files_is_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"has files that are not embeddings; name a new or an empty folder$"):
        stored(tmp_path, shards)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]


def test_an_equal_request_is_read_back_and_another_is_refused(shards: Path, tmp_path: Path) -> None:
    stored(tmp_path / "store", shards)
    before = contents(tmp_path / "store")
    with patch.object(room, "embed_piece", side_effect=AssertionError("embedded again")):
        stored(tmp_path / "store", shards)
    assert contents(tmp_path / "store") == before
    with pytest.raises(UserError, match=r"another request \(weights changed\)"):
        stored(tmp_path / "store", shards, tiny(seed=1))
    with pytest.raises(UserError, match=r"another request \(weights, transform changed\)"):
        stored(tmp_path / "store", shards, tiny(image=MODEL["image"] | {"size": 48}))


def test_the_cache_keeps_requests_apart(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    given = data(shards)
    folders = [room.embed_data(tiny(seed), given, given.val["val"], World()).folder for seed in (0, 1, 0)]
    assert folders[0] == folders[2] != folders[1]
    assert not torch.allclose(Store(folders[0]).table().vectors["text"], Store(folders[1]).table().vectors["text"])


STOPS_IN_THE_FOURTH_PIECE = """
import itertools, sys, time
from pathlib import Path
from unittest.mock import patch
from tests.eval.stored import room, stored
embed_piece = room.embed_piece
begun = itertools.count(1)
def stopping(*arguments):
    if next(begun) == 4:
        time.sleep(600)
    return embed_piece(*arguments)
with patch.object(room, "embed_piece", stopping):
    stored(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_embedding_resumes(shards: Path, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", STOPS_IN_THE_FOURTH_PIECE, str(folder), str(shards)], cwd=root)
    while len(list(folder.glob("piece_*"))) < 3:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stood = {path: path.stat().st_mtime_ns for path in folder.glob("piece_*")}
    assert len(stood) == 3
    assert "modalities" not in json.loads((folder / "manifest.json").read_text())
    stored(folder, shards)
    stored(tmp_path / "whole", shards)
    assert {path: path.stat().st_mtime_ns for path in stood} == stood
    unfinished = {path for path in folder.iterdir() if path.name.startswith(".")}
    same_stores(folder, tmp_path / "whole")
    assert len(unfinished) <= 1


def test_bad_samples_are_stored_and_reported(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    for shard in shards.glob("*.tar"):
        packed = bytearray(shard.read_bytes())
        first = packed.index(b"\xff\xd8\xff")
        packed[first : first + 3] = bytes(3)
        (tmp_path / "data" / shard.name).write_bytes(packed)
    store = stored(tmp_path / "store", tmp_path / "data")
    assert len(store.faults) == store.facts["left_out"] == 3
    assert store.facts["embedded"] == 67
    assert f"3 samples could not be embedded (3 × {store.faults[0].reason}; the first is" in capsys.readouterr().err


def test_weights_and_settings_decide_the_digest() -> None:
    digest = weights_digest(tiny())
    assert digest == weights_digest(tiny())
    changed = tiny()
    with torch.no_grad():
        changed.tower("image").positions[0, 0] += 1e-6
    heads = tiny(text=MODEL["text"] | {"options": {"width": 32, "heads": 4}})  # no tensor tells them apart
    heads.load_state_dict(tiny().state_dict())
    assert len({digest, weights_digest(changed), weights_digest(heads), weights_digest(tiny(seed=1))}) == 4
