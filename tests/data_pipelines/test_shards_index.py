import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.shards.index import Index, build_index
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.errors import UserError

LONG = "a-name-longer-than-the-hundred-bytes-of-a-tar-header/" * 3


def write_tar(path: Path, files: dict[str, bytes], format: int) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, BytesIO(payload))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def contents(index: Index) -> dict[str, dict[str, bytes]]:
    shards = Shards(index)
    return {index.key(id): shards.read(id, index.files(id)) for id in range(len(index))}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_payload_is_found_where_tarfile_put_it(tmp_path: Path, format: int) -> None:
    long = LONG[:120] + "/b" if format == tarfile.USTAR_FORMAT else LONG + "b" * 120
    files = {
        "a.png": b"p" * 700,
        "a.TXT": b"",
        "a.pickle": b"x" * 600,
        "a.mask.png": b"m",
        "._a.png": b"resource fork",
        f"{long}.txt": b"t" * 512,
        "ünïcode/c.json": b"{}",
        "README": b"no extension",
    }
    path = write_tar(tmp_path / "s.tar", files, format)
    assert contents(build_index([path])) == {
        "a": {"png": b"p" * 700, "txt": b""},
        long: {"txt": b"t" * 512},
        "ünïcode/c": {"json": b"{}"},
    }


def test_samples_are_those_of_webdataset(pack: Callable[..., Path], picture: Callable[..., bytes]) -> None:
    wholes = [{"__key__": f"deep/{i:03d}", "png": picture(i), "txt": f"caption {i}"} for i in range(30)]
    path = pack(
        "s.tar",
        [{k: v for k, v in whole.items() if k != ("png" if i % 3 else "txt")} for i, whole in enumerate(wholes)],
    )
    theirs = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    expected = {s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")} for s in theirs}
    assert len(expected) == 30
    assert contents(build_index([path])) == expected


def test_ids_run_on_over_the_shards_and_keys_may_repeat(pack: Callable[..., Path]) -> None:
    first = pack("0.tar", [{"__key__": "x", "txt": "one"}, {"__key__": "x", "txt": "two"}])
    second = pack("1.tar", [{"__key__": "x", "txt": "three"}])
    shards = Shards(build_index([first, second]))
    assert [shards.read(id, {"txt"})["txt"] for id in range(3)] == [b"one", b"two", b"three"]
    assert [shards.index.shard(id) for id in range(3)] == [first, first, second]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]


CORRUPTIONS: dict[str, Callable[[bytes, list[int]], bytes]] = {
    "cut at a member boundary": lambda data, headers: data[: headers[4]],
    "cut between picture and caption": lambda data, headers: data[: headers[5]],
    "cut inside a header": lambda data, headers: data[: headers[4] + 100],
    "cut inside a payload": lambda data, headers: data[: headers[4] + 600],
    "cut before the end mark": lambda data, headers: data[: headers[-1] + 512],
    "a flipped byte in a name": lambda data, headers: flipped(data, headers[4]),
    "a flipped byte in a size": lambda data, headers: flipped(data, headers[4] + 130),
    "a stray block of zeros": lambda data, headers: data[: headers[4]] + bytes(512) + data[headers[4] :],
    "empty": lambda data, headers: b"",
    "a page": lambda data, headers: b"<html>" + b"not found " * 500,
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_damaged_shard_is_named(tmp_path: Path, corruption: str) -> None:
    files = {f"{i}.{extension}": bytes([65 + i]) * 700 for i in range(5) for extension in ("png", "txt")}
    path = write_tar(tmp_path / "good.tar", files, tarfile.USTAR_FORMAT)
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    (tmp_path / "bad.tar").write_bytes(CORRUPTIONS[corruption](path.read_bytes(), headers))
    assert len(build_index([path])) == 5
    with pytest.raises(UserError, match=r"bad\.tar is damaged"):
        build_index([path, tmp_path / "bad.tar"])


def test_a_shard_cut_after_it_was_indexed_is_noticed(pack: Callable[..., Path]) -> None:
    path = pack("s.tar", [{"__key__": "x", "txt": "word " * 4000}])
    shards = Shards(build_index([path]))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match=r"s\.tar is damaged"):
        shards.read(0, {"txt"})


def test_shards_without_samples_are_refused(pack: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="hold no samples"):
        open_shards(str(pack("s.tar", [{"__key__": "x", "npy": b"0"}])))


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=12))
def test_any_sizes_are_read_back(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    path = tmp_path_factory.mktemp("any") / "s.tar"
    files = {f"{i:03d}.txt": bytes([i + 1]) * size for i, size in enumerate(sizes)}
    write_tar(path, files, tarfile.PAX_FORMAT)
    assert contents(build_index([path])) == {name[:3]: {"txt": payload} for name, payload in files.items()}
