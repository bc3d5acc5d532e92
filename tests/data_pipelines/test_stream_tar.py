import tarfile
from collections.abc import Callable
from io import BytesIO
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.stream import shard as stream_shard
from tercet.data_pipelines.stream.shard import samples_of
from tercet.data_pipelines.stream.tar import CheckedTar, Damage

WANTED = frozenset({"png", "txt"})
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def tar_of(files: list[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT, **pax: str) -> bytes:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for name, payload in files:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(payload), pax
            tar.addfile(info, BytesIO(payload))
    return stream.getvalue()


def read(path: Path, data: bytes) -> list[tuple[str, object]]:
    path.write_bytes(data)
    return list(samples_of(str(path), WANTED, Patience()))


@pytest.mark.parametrize("format", FORMATS)
def test_samples_are_read_from_every_tar_format(tmp_path: Path, format: int) -> None:
    long = "folder/" * (13 if format == tarfile.USTAR_FORMAT else 30) + "x"
    files = [(f"{long}{i}.{extension}", bytes([i]) * 700) for i in range(3) for extension in ("PNG", "pickle", "txt")]
    expected = [(f"{long}{i}", {"png": bytes([i]) * 700, "txt": bytes([i]) * 700}) for i in range(3)]
    assert read(tmp_path / "s.tar", tar_of(files, format)) == expected


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=8), format=st.sampled_from(FORMATS))
def test_tarfile_reads_the_same_through_the_checks(sizes: list[int], format: int) -> None:
    """And the size of a file is known as soon as its name."""
    data = tar_of([(f"{i}.txt", bytes([i + 1]) * size) for i, size in enumerate(sizes)], format)
    tar = CheckedTar(BytesIO(data))
    with tarfile.open(fileobj=tar, mode="r|") as theirs:  # type: ignore[call-overload]
        for size, info in zip(sizes, theirs, strict=True):
            assert (tar.size, info.size) == (size, size)
    tar.finish()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]


CORRUPTIONS: dict[str, tuple[Callable[[bytes, list[int]], bytes], str, int]] = {
    "cut at a member boundary": (lambda data, at: data[: at[4]], "cut short", 1),
    "cut inside a header": (lambda data, at: data[: at[4] + 100], "cut short", 1),
    "cut between picture and caption": (lambda data, at: data[: at[5]], "cut short", 2),
    "cut inside a payload": (lambda data, at: data[: at[4] + 600], "cut short", 1),
    "a flipped byte in a name": (lambda data, at: flipped(data, at[4]), "damaged header", 1),
    "a flipped byte in a size": (lambda data, at: flipped(data, at[4] + 130), "damaged header", 1),
    "a stray block of zeros": (lambda data, at: data[: at[4]] + bytes(512) + data[at[4] :], "data after", 2),
    "cut before the end mark": (lambda data, at: data[: at[-1] + 1024], "cut short", 4),
    "empty": (lambda data, at: b"", "empty", 0),
    "a page": (lambda data, at: b"<html>" + b"not found " * 500, "not a tar", 0),
    "compressed": (lambda data, at: b"\x1f\x8b\x08" + data, "not a tar", 0),
    "no sample": (lambda data, at: tar_of([("a.pickle", b"x")]), "empty", 0),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_damage_raises_after_the_samples_before_it(tmp_path: Path, corruption: str) -> None:
    """The samples before the damage are read, and the damaged one is not."""
    files = [(f"{i}.{extension}", bytes([65 + i]) * 700) for i in range(5) for extension in ("png", "txt")]
    data = tar_of(files)
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        headers = [member.offset for member in tar]
    corrupt, reason, whole = CORRUPTIONS[corruption]
    path = tmp_path / "s.tar"
    path.write_bytes(corrupt(data, headers))
    samples = samples_of(str(path), WANTED, Patience())
    came = list(islice(samples, whole))
    assert came == [(str(i), {"png": bytes([65 + i]) * 700, "txt": bytes([65 + i]) * 700}) for i in range(whole)]
    with pytest.raises(Damage) as damage:
        next(samples)
    assert reason in damage.value.reason


def test_a_flipped_byte_in_a_payload_is_not_noticed(tmp_path: Path) -> None:
    """A tar has no checksum of payloads. Only a decoder may notice."""
    data = tar_of([("0.txt", b"word")])
    assert read(tmp_path / "s.tar", flipped(data, 512)) == [("0", {"txt": flipped(b"word", 0)})]


def test_a_file_over_the_size_cap_is_not_read_and_its_sample_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_shard, "LARGEST_FILE", 1000)
    large = b"x" * 1001
    files = [("0.png", b"p"), ("0.txt", large), ("1.png", large), ("2.pickle", large), ("3.txt", b"t")]
    samples = read(tmp_path / "s.tar", tar_of(files))
    assert [key for key, _ in samples] == ["0", "1", "3"]
    assert [found.reason if isinstance(found, BadSample) else found for _, found in samples] == [
        "file over the size cap",
        "file over the size cap",
        {"txt": b"t"},
    ]


@pytest.mark.parametrize("header", [{"size": "999999999999"}, {"GNU.sparse.realsize": "999999999999"}])
def test_headers_that_change_the_size_of_a_file_are_refused(tmp_path: Path, header: dict[str, str]) -> None:
    with pytest.raises(Damage, match="changes the size"):
        read(tmp_path / "s.tar", tar_of([("0.txt", b"t")], tarfile.PAX_FORMAT, **header))


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33 - 1
    with pytest.raises(Damage, match="bytes long"):
        read(tmp_path / "s.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


def test_samples_are_grouped_as_in_the_index(tmp_path: Path) -> None:
    """A second file with the same extension begins a new sample; so does a name that appears again later."""
    names = ["a.txt", "a.png", "a.txt", "b.png", "a.png", "._c.png", "d.mask.png", "README"]
    samples = read(tmp_path / "s.tar", tar_of([(name, str(i).encode()) for i, name in enumerate(names)]))
    assert samples == [
        ("a", {"txt": b"0", "png": b"1"}),
        ("a", {"txt": b"2"}),
        ("b", {"png": b"3"}),
        ("a", {"png": b"4"}),
    ]


def test_a_shard_with_another_count_than_its_stats_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "00000_stats.json").write_text('{"count": 4, "successes": 3}')
    three = [(f"{i}.txt", b"t") for i in range(3)]
    assert len(read(tmp_path / "00000.tar", tar_of(three))) == 3
    with pytest.raises(Damage, match=r"holds 2 samples, but its _stats.json says 3"):
        read(tmp_path / "00000.tar", tar_of(three[:2]))
