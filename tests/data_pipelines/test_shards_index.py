import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.shards.index import arrange
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.tar import members
from tercet.errors import UserError
from tests.data_pipelines.tars import contents, good, write_tar

LONG = "a-name-longer-than-the-hundred-bytes-of-a-tar-header/" * 3


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_index_has_the_same_offsets_as_tarfile(tmp_path: Path, format: int) -> None:
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
    assert contents(path) == {
        "a": {"png": b"p" * 700, "txt": b""},
        long: {"txt": b"t" * 512},
        "ünïcode/c": {"json": b"{}"},
    }


def test_folders_and_links_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("a.txt"))
    assert [member.name for member in members(str(path))] == [b"a.txt"]


def test_a_header_without_a_size_is_an_empty_file_like_in_tarfile(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", {"folder/": b"", "a.txt": b"text"})
    tar = bytearray(path.read_bytes())
    tar[124:136], tar[148:156] = bytes(12), b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])
    path.write_bytes(tar)
    with tarfile.open(path) as theirs:
        assert [member.size for member in theirs] == [0, 4]
    assert contents(path) == {"a": {"txt": b"text"}}


def test_samples_equal_those_of_webdataset(pack: Callable[..., Path], picture: Callable[..., bytes]) -> None:
    wholes = [{"__key__": f"deep/{i:03d}", "png": picture(i), "txt": f"caption {i}"} for i in range(30)]
    path = pack(
        "s.tar",
        [{k: v for k, v in whole.items() if k != ("png" if i % 3 else "txt")} for i, whole in enumerate(wholes)],
    )
    theirs = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    expected = {s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")} for s in theirs}
    assert len(expected) == 30
    assert contents(path) == expected


def test_ids_continue_over_shards_and_keys_may_repeat(pack: Callable[..., Path]) -> None:
    first = pack("0.tar", [{"__key__": "x", "txt": "one"}, {"__key__": "x", "txt": "two"}])
    none = pack("1.tar", [{"__key__": "x", "pyd": b"never read"}])
    last = pack("2.tar", [{"__key__": "x", "txt": "three"}])
    shards = open_shards([str(first), str(none), str(last)])
    assert [files["txt"] for files in good(shards)] == [b"one", b"two", b"three"]
    assert [shards.shard(id) for id in range(3)] == [str(first), str(first), str(last)]
    assert shards.counts.tolist() == [2, 0, 1]


def test_unusual_samples_are_counted(tmp_path: Path) -> None:
    names = [
        "a.jpg", "a.txt", "a.json",
        "b.png", "b.txt", "b.json",
        "c.jpeg", "c.txt",  # lacks its .json
        "d.txt", "d.json", "d.weights.pth",  # lacks its picture
        "a.webp", "a.txt", "a.json", "a.npy",  # the key of another
        "e.jpg", "e.txt", "e.json", "e.flac", "e.PYD", "e.cls",
        "notes", ".DS_Store",
    ]  # fmt: skip
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    _, census = arrange(members(str(path)))
    assert dict(census.files) == {
        "png": 1, "jpg": 2, "jpeg": 1, "webp": 1, "flac": 1, "txt": 6, "json": 5, "cls": 1
    }  # fmt: skip
    assert dict(census.passed_over) == {"weights.pth": 1, "npy": 1, "pyd": 1, "": 1, ".DS_Store": 1}
    assert sum(census.files.values()) + sum(census.passed_over.values()) == len(names)
    assert (census.repeated, census.incomplete) == (1, 2)


def test_shards_without_samples_are_refused(pack: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="contain no samples"):
        open_shards(str(pack("s.tar", [{"__key__": "x", "npy": b"0"}])))


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=12))
def test_any_sizes_are_read_back(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    files = {f"{i:03d}.txt": bytes([i + 1]) * size for i, size in enumerate(sizes)}
    path = write_tar(tmp_path_factory.mktemp("any") / "s.tar", files, tarfile.PAX_FORMAT)
    assert contents(path) == {name[:3]: {"txt": payload} for name, payload in files.items()}
