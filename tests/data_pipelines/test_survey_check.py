"""`tercet data check` finds exactly the files that were broken on purpose, and its counts add up."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from tercet.command import main
from tercet.data_pipelines.shards.build import index_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.survey.check import check
from tercet.data_pipelines.survey.walk import walk
from tercet.errors import UserError

Spoil = Callable[[dict[str, bytes | str]], object]
Members = dict[str, "bytes | str"]


def spoiled(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(sample: Members) -> None:
        data = sample[name]
        sample[name] = change(data if isinstance(data, bytes) else data.encode())

    return spoil


SPOILT: Mapping[str, tuple[str, Spoil]] = {
    "a picture cut short": ("image: truncated or damaged", spoiled("jpg", lambda data: data[:-50])),
    "an empty picture": ("image: not a known format", spoiled("jpg", lambda data: b"")),
    "a page as a picture": ("image: not a known format", spoiled("jpg", lambda data: b"<html>404</html>")),
    "an empty sound": ("audio: not a known format", spoiled("wav", lambda data: b"")),
    "a sound cut short": ("audio: truncated or damaged", spoiled("wav", lambda data: data[:-100])),
    "a sound that is not finite": ("audio: not finite", spoiled("wav", lambda data: data[:-4] + b"\0\0\xc0\x7f")),
    "words in another encoding": ("text: not UTF-8", spoiled("txt", lambda data: "Böot".encode("latin-1"))),
    "no words": ("text: empty", spoiled("txt", lambda data: b" \n\n")),
    "half an object": ("json: unreadable", spoiled("json", lambda data: b'{"group":')),
    "a list": ("json: not an object", spoiled("json", lambda data: b"[1]")),
    "no picture": ("orphan: no image, which most samples have", lambda sample: sample.pop("jpg")),
    "no words at all": ("orphan: no text, which most samples have", lambda sample: sample.pop("txt")),
    "a key of its shard": ("key: used before in its shard", lambda sample: sample.update(__key__="1-000")),
    "a key of another": ("key: used before in another shard", lambda sample: sample.update(__key__="0-001")),
}
SAMPLES, EVERY = 60, 4  # of a shard; the spoilt ones of the second shard begin at 3


@pytest.fixture
def sample(picture: Callable[..., bytes], sound: Callable[..., bytes]) -> Callable[[str], Members]:
    tone = sound(np.sin(np.arange(800) / 9) / 2, 16000, "WAV", "FLOAT")
    jpeg = picture(1, (40, 30), "jpeg")

    def make(key: str) -> Members:
        return {"__key__": key, "jpg": jpeg, "wav": tone, "txt": f"caption {key}", "json": "{}"}

    return make


@pytest.fixture
def shards(tmp_path: Path, sample: Callable[[str], Members]) -> Path:
    """Three shards; the second has one sample with each kind of damage."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        samples = [sample(f"{shard}-{number:03d}") for number in range(SAMPLES)]
        if shard == 1:
            for number, (_, spoil) in enumerate(SPOILT.values()):
                spoil(samples[3 + EVERY * number])
        write_shard(folder / f"{shard}.tar", samples)
    return folder


def listed(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_exactly_the_broken_files_are_found(shards: Path, tmp_path: Path) -> None:
    found = check(str(shards), 1, tmp_path / "bad.jsonl")
    expected = {SAMPLES + 3 + EVERY * number: reason for number, (reason, _) in enumerate(SPOILT.values())}
    lines = listed(tmp_path / "bad.jsonl")
    assert {line["id"]: line["reason"] for line in lines} == expected
    assert [line["id"] for line in lines] == sorted(expected)
    assert {line["shard"] for line in lines} == {str(shards / "1.tar")}
    assert lines[0]["key"] == "1-003"
    assert found.reasons == Counter(expected.values())
    result = found.to_json()
    assert result["samples"] == 3 * SAMPLES == result["good"] + result["bad"]
    assert result["bad"] == sum(result["reasons"].values()) == len(SPOILT)
    assert result["by_shard"] == {str(shards / "1.tar"): {"samples": SAMPLES, "bad": 14, "reasons": result["reasons"]}}
    assert {reason: len(examples) for reason, examples in result["examples"].items()} == result["reasons"]


def test_findings_do_not_depend_on_the_number_of_processes(shards: Path, tmp_path: Path) -> None:
    alone, together = (check(str(shards), workers, tmp_path / f"{workers}.jsonl") for workers in (1, 2))
    assert alone.to_json() == together.to_json()
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_a_dead_process_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="take fewer --workers"):
        list(walk(os._exit, [1, 1, 1], 2, "dying"))


def test_damaged_shards_are_named_and_the_others_are_read(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "2.tar").read_bytes()
    broken = {
        "3.tar": whole[: len(whole) // 2],
        "4.tar": b"",
        "5.tar": b"<html>not found</html>" * 200,
        "6.tar": whole[:700] + b"\xff" + whole[701:],  # in a payload: a whole tar
        "7.tar": whole[:3] + b"?" + whole[4:],
    }
    for name, data in broken.items():
        (shards / name).write_bytes(data)
    found = check(str(shards), 1, tmp_path / "bad.jsonl")
    damaged = {str(shards / name) for name in broken if name != "6.tar"}
    assert set(found.damaged) == damaged
    assert {line["shard"] for line in listed(tmp_path / "bad.jsonl") if line["id"] == -1} == damaged
    assert (found.shards, found.samples) == (8, 4 * SAMPLES)
    assert set(found.worst[:4]) == damaged
    assert not found.clean(max_bad=1.0)


def test_damage_after_a_shard_was_indexed_is_found(shards: Path) -> None:
    index_shards([str(shards / "2.tar")])
    with (shards / "2.tar").open("r+b") as tar:
        tar.seek(4)
        tar.write(b"?")  # in a name
    assert list(check(str(shards / "2.tar"), 1).damaged) == [str(shards / "2.tar")]


@pytest.mark.parametrize("number", [0, 17, SAMPLES - 1])
def test_a_flipped_byte_in_a_caption_is_found_by_its_checksum(shards: Path, number: int) -> None:
    """Only the index that is written with a shard has checksums."""
    shard = shards / "2.tar"
    assert check(str(shard), 1).clean()
    shard.write_bytes(shard.read_bytes().replace(b"caption 2-%03d" % number, b"capsion 2-%03d" % number))
    found = check(str(shard), 1)
    assert dict(found.reasons) == {"payload does not match its checksum": 1}
    (fault,) = found.examples["payload does not match its checksum"]
    assert (fault.key, fault.id) == (f"2-{number:03d}", number)


def test_shards_behind_urls_are_checked_too(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    (shards / "3.tar").write_bytes(b"<html>not found</html>" * 200)
    serve = partial(SimpleHTTPRequestHandler, directory=str(shards))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://someone:secret@127.0.0.1:{server.server_port}"
        found = check(address + "/{0..3}.tar", 1, tmp_path / "bad.jsonl")
        server.shutdown()
    near = check(str(shards), 1)
    assert found.reasons == near.reasons
    assert list(found.damaged) == [f"http://127.0.0.1:{server.server_port}/3.tar"]
    assert {Path(str(line["shard"])).name for line in listed(tmp_path / "bad.jsonl")} == {"1.tar", "3.tar"}
    assert "secret" not in (tmp_path / "bad.jsonl").read_text()


def test_shards_are_compared_with_the_manifest_beside_them(shards: Path) -> None:
    shard = shards / "2.tar"
    promise = {"name": "2.tar", "samples": SAMPLES, "sha256": sha256(shard.read_bytes()).hexdigest()}
    (shards / "manifest.json").write_text(json.dumps({"shards": [{**promise, "sha256": "0" * 64}]}))
    assert check(str(shard), 1).damaged == {str(shard): "its sha256 is not that of manifest.json"}
    (shards / "manifest.json").write_text(json.dumps({"shards": [promise, {**promise, "name": "9.tar"}]}))
    found = check(str(shard), 1)
    assert found.damaged == {str(shards / "9.tar"): "manifest.json lists it, but it does not exist"}


def test_a_modality_that_half_of_the_samples_lack_is_not_a_fault(
    tmp_path: Path, sample: Callable[[str], Members]
) -> None:
    samples = [sample(f"{number:03d}") for number in range(20)]
    for each in samples[::2]:
        del each["jpg"]
    for each in samples:
        each["pickle"], each["xml"] = b"x", b"x"
    write_shard(tmp_path / "s.tar", samples)
    found = check(str(tmp_path), 1)
    assert found.clean()
    assert found.passed_over == {"pickle": 20, "xml": 20}
    assert found.files == {"wav": 20, "txt": 20, "json": 20, "jpg": 10}
    assert sorted(found.usual) == ["audio", "json", "text"]


def test_a_flipped_pixel_of_a_png_is_found(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    data = bytearray(picture(3, (64, 64), "png"))
    data[data.index(b"IDAT") + 40] ^= 1
    write_shard(tmp_path / "s.tar", [{"__key__": "a", "png": bytes(data)}])
    assert dict(check(str(tmp_path), 1).reasons) == {"image: truncated or damaged": 1}


def test_the_exit_code_says_if_data_are_broken(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report" / "check.html"
    assert main(["data", "check", str(shards / "2.tar"), "--workers", "1"]) == 0
    assert "Nothing is wrong." in capsys.readouterr().out
    assert main(["data", "check", str(shards), "--workers", "1", "--json", "--out", str(page)]) == 1
    assert json.loads(capsys.readouterr().out)["bad"] == 14
    assert page.is_file()
    assert len(listed(page.with_name("bad_samples.jsonl"))) == 14
    assert main(["data", "check", str(shards), "--workers", "1", "--max-bad", "0.1"]) == 0
    assert "14 of 180 samples are bad" in capsys.readouterr().out


def test_damaged_shards_are_reported_also_without_bad_samples(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "1.tar").write_bytes(b"")
    assert main(["data", "check", str(shards), "--workers", "1"]) == 1
    result = " ".join(capsys.readouterr().out.split())
    assert "✗ 1 of 3 shards is damaged. 120 samples could be read, without a fault." in result


def test_names_need_not_be_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "s.tar", [{"__key__": "a\udcff<b>", "txt": b"\xff"}])
    page = tmp_path / "report" / "check.html"
    assert main(["data", "check", str(tmp_path), "--workers", "1", "--json", "--out", str(page)]) == 1
    (example,) = json.loads(capsys.readouterr().out)["examples"]["text: not UTF-8"]
    assert example["key"] == "a\udcff<b>" == listed(page.with_name("bad_samples.jsonl"))[0]["key"]
    assert "a\\udcff&lt;b&gt;" in page.read_text()


def test_the_page_of_data_pack_is_not_overwritten(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "manifest.json").write_text('{"shards": []}')
    assert main(["data", "check", str(shards), "--out", str(shards / "check.html")]) == 2
    assert "choose another folder for the page" in capsys.readouterr().err
