"""Captions in a file beside the data: joined by key, in training and evaluation, whatever process reads them."""

import json
import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.captions.sidecar import Sidecar, open_sidecar
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.fields import FieldConfig, further_fields
from tercet.data_pipelines.preflight.declared import check_source
from tercet.data_pipelines.preflight.sidecars import warn_if_strange
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError
from tercet.eval.embedding.fingerprint import transform_digest
from tests.data_pipelines.further import INTAKES, words

TEXT = {"text": INTAKES["text"]}
FIELDS = {"text.negative": {"from": "json.negatives", "rows": 2}}


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def row(key: str, **values: object) -> dict[str, object]:
    return {"key": key, **values}


@pytest.fixture
def shard(pack: Callable[..., Path]) -> str:
    items = [
        {"__key__": f"{i:02d}", "txt": f"dog {i}", "json": json.dumps({"n": i, "rewrites": ["own"]}).encode()}
        for i in range(12)
    ]
    return str(pack("0.tar", items))


def test_lines_are_found_by_key_in_all_files_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", row("x", n=1), row("é" * 300, n=2))
    (tmp_path / "b.jsonl").write_text('\n{"n": 3, "key": "z"}\n', encoding="utf-8")
    found = open_sidecar(str(tmp_path))
    sent: Sidecar = pickle.loads(pickle.dumps(found))
    for sidecar in (found, sent):
        assert [sidecar(key) for key in ("x", "é" * 300, "z", "w")] == [{"n": 1}, {"n": 2}, {"n": 3}, {}]
        assert ("z" in sidecar, "w" in sidecar, len(sidecar)) == (True, False, 3)
    write(tmp_path / "c.jsonl", row("x", n=5, m=6), row("w"))
    assert open_sidecar(str(tmp_path))("x") == {"n": 5, "m": 6}, "the last file lies over the others"
    (tmp_path / "c.jsonl").unlink()
    write(tmp_path / "a.tmp", row("w", n=0), row("x", n=4))
    (tmp_path / "a.tmp").replace(tmp_path / "a.jsonl")
    assert open_sidecar(str(tmp_path))("x") == {"n": 4}, "a file that was replaced is read again"


def test_the_keys_of_the_sidecar_lie_over_those_of_the_sample(shard: str, tmp_path: Path) -> None:
    """Captions, metadata and so every reader of `.json` see them."""
    path = write(tmp_path / "more.jsonl", row("03", rewrites=["cat 3"], negatives=[]), row("05", rewrites=["cat 5"]))
    split = SplitConfig.model_validate({"source": shard, "sidecar": path, "captions": {"json.rewrites": 1}})
    decode = Decoder(open_shards([shard]), TEXT, split)
    samples = decode([3, 4], [CentreView(), CentreView()])
    assert [one.text for one in samples if isinstance(one, Sample)] == [("cat 3",), ("own",)]
    assert samples[0].meta == {"n": 3, "rewrites": ["cat 3"], "negatives": []}  # type: ignore[union-attr]


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_a_field_reads_the_sidecar_in_every_worker(shard: str, tmp_path: Path, worker: str) -> None:
    rows = [row(f"{i:02d}", negatives=[{"kind": "k", "text": f"not {i}"}] * (i % 2)) for i in range(12)]
    split = {"source": shard, "sidecar": write(tmp_path / "more.jsonl", *rows)}
    data = DataConfig.model_validate({"train": split, "streams": 2, "window": 4, "workers": 1, "worker": worker})
    fields = {name: FieldConfig.model_validate(values) for name, values in FIELDS.items()}
    further = further_fields(fields, fields, TEXT)
    seen = set()
    for batch in islice(Loader(data, {"train": open_shards([shard])}, TEXT, 6, seed=0, further=further), 4):
        for item, id in enumerate(batch.ids.tolist()):
            assert words(batch.fields["text.negative"], item) == [f"not {id}"] * (id % 2)
            seen.add(id)
    assert seen == set(range(12))


def test_a_sidecar_of_other_data_is_pointed_out(shard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = {"train": open_shards([shard])}
    for rows, expected in ([row("03")], ""), ([row("3")], "none of the first 12 samples, such as `00`, has a line in"):
        path = write(tmp_path / f"{len(expected)}.jsonl", *rows)
        warn_if_strange(DataConfig.model_validate({"train": {"source": shard, "sidecar": path}}).train, sources)
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"key": "a"}\n{"key": "a"}\n', "has two lines for the key `a`; keep one"),
        ('{"key": "a"}\n[1]\n', 'line 2 of .* is not an object with the "key" of a sample'),
        ('{"key": 1}\n', 'line 1 of .* is not an object with the "key" of a sample'),
        ('{"key": "a"', "line 1 of"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "more.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        open_sidecar(str(tmp_path / "more.jsonl"))


def test_a_missing_sidecar_is_found_before_a_run(shard: str, tmp_path: Path) -> None:
    split = SplitConfig.model_validate({"source": shard, "sidecar": str(tmp_path / "none.jsonl")})
    with pytest.raises(UserError, match=r"none.jsonl is not a JSONL file or a folder of them"):
        check_source(split, OpenedSources())


def test_embeddings_by_another_sidecar_of_the_same_name_are_made_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "more.jsonl", row("1", text="a dog"))
    split = SplitConfig.model_validate({"source": "shards", "sidecar": path})
    before = transform_digest(TEXT, split, exact_images=False)
    assert transform_digest(TEXT, split, exact_images=False) == before
    write(tmp_path / "more.jsonl", row("1", text="a brown dog"))
    assert transform_digest(TEXT, split, exact_images=False) != before
