import tarfile
from pathlib import Path

import pytest
import webdataset
from xxhash import xxh3_64

from tercet.data_pipelines.shards.record import load_index
from tercet.data_pipelines.shards.write import write_shard
from tercet.modality import EXTENSIONS

SAMPLES: list[dict[str, str | bytes]] = [
    {"__key__": "plain", "txt": "a caption", "png": b"p" * 513},
    {"__key__": "folder/empty", "txt": ""},
    {"__key__": "größe/Ж", "txt": "ünïcode", "json": "{}"},
    {"__key__": f"{'long' * 40}/{'longer' * 30}", "cls": b"7"},
]


def test_headers_are_plain_if_the_name_allows_it(tmp_path: Path) -> None:
    write_shard(tmp_path / "plain.tar", SAMPLES[:2])
    with tarfile.open(tmp_path / "plain.tar") as tar:
        members = list(tar)
    assert [member.name for member in members] == ["plain.png", "plain.txt", "folder/empty.txt"]
    assert [member.offset for member in members] == [0, 512 + 1024, 512 + 1024 + 1024]  # nothing in between
    assert not any(member.pax_headers for member in members)


def test_webdataset_and_tarfile_read_our_shards(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    write_shard(path, SAMPLES)
    expected = [{k: v.encode() if isinstance(v, str) else v for k, v in sample.items()} for sample in SAMPLES]
    theirs = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    found = [{k: v for k, v in sample.items() if k == "__key__" or k[0] != "_"} for sample in theirs]
    assert found == [{**sample, "__key__": str(SAMPLES[i]["__key__"])} for i, sample in enumerate(expected)]
    with tarfile.open(path) as tar:
        payloads = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert payloads == {
        f"{original['__key__']}.{extension}": payload
        for original, sample in zip(SAMPLES, expected, strict=True)
        for extension, payload in sample.items()
        if extension != "__key__"
    }


def test_the_index_has_the_checksum_of_every_payload(tmp_path: Path) -> None:
    index = load_index(write_shard(tmp_path / "s.tar", SAMPLES))
    data = (tmp_path / "s.tar").read_bytes()
    assert index.checksum_M is not None
    rows = zip(index.code_M, index.offset_M.tolist(), index.size_M.tolist(), index.checksum_M.tolist(), strict=True)
    found = [(EXTENSIONS[code], data[start : start + size], checksum) for code, start, size, checksum in rows]
    payloads = [(k, sample[k]) for sample in SAMPLES for k in sorted(sample.keys() - {"__key__"})]
    expected = [(k, v.encode() if isinstance(v, str) else v) for k, v in payloads]
    assert found == [(k, payload, xxh3_64(payload).intdigest()) for k, payload in expected]


def test_keys_are_utf8_in_any_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under LC_ALL=de_DE.ISO-8859-1."""
    monkeypatch.setattr("os.fsencode", lambda name: name.encode("latin-1"))
    index = load_index(write_shard(tmp_path / "s.tar", [{"__key__": "größe", "txt": "t"}]))
    assert index.key_K.tobytes() == "größe".encode()


def test_equal_samples_give_equal_shards(tmp_path: Path) -> None:
    shard, index = tmp_path / "s.tar", tmp_path / ".index/s.tar.safetensors"
    write_shard(shard, SAMPLES)
    once = shard.read_bytes(), index.read_bytes()
    write_shard(shard, SAMPLES[:1])
    assert (shard.read_bytes(), index.read_bytes()) != once
    write_shard(shard, iter(SAMPLES))
    assert (shard.read_bytes(), index.read_bytes()) == once
    assert sorted(path.name for path in tmp_path.iterdir()) == [".index", "s.tar"]
