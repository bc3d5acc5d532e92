"""What is wrong with samples, with shards and with the network: noticed, attributed and counted."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import AudioIntake, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.stream.loader import StreamLoader
from tercet.data_pipelines.stream.reader import id_of
from tercet.data_pipelines.stream.reconnecting import ReconnectingStream
from tercet.data_pipelines.stream.tar import Damage
from tercet.errors import UserError
from tests.data_pipelines.web import Web, serving

Pack = Callable[..., Path]

INTAKES: dict[str, Intake] = {
    "image": ImageIntake((8, 8)),
    "audio": AudioIntake(8000, 0.02),
    "text": TextIntake(lambda captions: torch.tensor([[len(caption)] for caption in captions])),
}
QUICK = Patience(tries=3, stall=1.5, pause=0.01)


def loader(shards: object, batch_size: int, **options: object) -> StreamLoader:
    data = {"crop": None, "workers": 0, "worker": "thread", "max_bad": 1.0, "train": str(shards)}
    data |= {name: options.pop(name) for name in list(options) if name in DataConfig.model_fields}
    options = {"seed": 1, "shuffled": 0, "patience": QUICK, **options}
    return StreamLoader(DataConfig.model_validate(data), INTAKES, batch_size, **options)  # type: ignore[arg-type]


def texts(shard: int, count: int) -> list[dict[str, object]]:
    return [{"__key__": f"{shard}-{i}", "txt": f"caption {i}"} for i in range(count)]


def all_ids(loader: StreamLoader, steps: int) -> list[int]:
    return [id for batch in islice(loader, steps) for id in batch.ids.tolist()]


@pytest.fixture
def spoilt(
    pack: Pack, picture: Callable[..., bytes], sound: Callable[..., bytes]
) -> tuple[Path, dict[str, dict[str, bytes | None]]]:
    """54 good samples, and among them one of each kind of bad one: every tenth."""
    wave = np.linspace(-0.5, 0.5, 200)
    good = {"png": picture(0, (100, 100)), "wav": sound(wave, 8000, "WAV"), "txt": b"a caption"}
    broken: dict[str, dict[str, bytes | None]] = {
        "image: truncated or damaged": {"png": good["png"][: len(good["png"]) // 2]},
        "audio: not a known format": {"wav": b""},
        "audio: not finite": {"wav": sound(np.insert(wave, 100, np.nan), 8000, "WAV", "FLOAT")},
        "text: not UTF-8": {"txt": b"caf\xe9"},
        "text: empty": {"txt": b"\n"},
        "none of the run's modalities": {"png": None, "wav": None, "txt": None, "json": b"{}"},
    }
    kinds = list(broken.values())
    files = [{**good, **(kinds[i // 10] if i % 10 == 9 else {})} for i in range(60)]
    samples = [{"__key__": f"k{i}", **{k: v for k, v in file.items() if v is not None}} for i, file in enumerate(files)]
    return pack("s.tar", samples), broken


def test_bad_samples_are_counted_logged_and_replaced_by_the_next(
    spoilt: tuple[Path, dict[str, dict[str, bytes | None]]], tmp_path: Path
) -> None:
    path, broken = spoilt
    training = loader(path, 18, folder=tmp_path, workers=2)
    keys = {id_of(str(path), f"k{i}"): i for i in range(60)}
    order = [keys[id] for id in all_ids(training, 6)]
    assert order == 2 * [i for i in range(60) if i % 10 != 9]
    # a batch ends with its last good sample: the bad one behind the second epoch's has not been met
    assert training.bad == Counter(2 * list(broken)) - Counter([list(broken)[-1]])
    assert training.bad_log.seen == 119
    lines = [json.loads(line) for line in (tmp_path / "bad_samples.jsonl").read_text().splitlines()]
    assert [(line["shard"], line["key"], line["reason"]) for line in lines] == [
        (str(path), f"k{10 * n + 9}", reason) for n, reason in enumerate(broken)
    ]


def test_too_many_bad_samples_stop_the_run(spoilt: tuple[Path, object], pack: Pack) -> None:
    with pytest.raises(UserError, match=r"of \d+ samples are bad, more than data.max_bad = 0.01"):
        list(islice(loader(spoilt[0], 20, max_bad=0.01), 30))
    nothing = pack("n.tar", [{"__key__": str(i), "txt": b"\n"} for i in range(5)])
    with pytest.raises(UserError, match=r"1024 samples in a row are bad \(1024 × text: empty\), the last in .*n\.tar"):
        next(iter(loader(nothing, 4)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_stops_the_run_and_is_named(pack: Pack, workers: int) -> None:
    whole, cut = pack("0.tar", texts(0, 6)), pack("1.tar", texts(1, 6))
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"^shard \S+/1\.tar is damaged: it was cut short, 5000 bytes long") as error:
        all_ids(loader(whole.parent, 4, workers=workers), 10)
    assert "\n" not in str(error.value)


def test_samples_that_a_damaged_shard_lost_are_counted(pack: Pack, tmp_path: Path) -> None:
    """In each epoch all lost samples count as bad if the stats file gives their number, otherwise one."""
    whole, cut = pack("0.tar", texts(0, 6)), pack("1.tar", texts(1, 8))
    cut.write_bytes(cut.read_bytes()[:5000])
    guess = loader(whole.parent, 1, missing="skip")
    came = len(set(all_ids(guess, 20))) - 6
    assert 0 < came < 8
    (cut.parent / "1_stats.json").write_text('{"successes": 8}')
    known = loader(whole.parent, 1, missing="skip", folder=tmp_path)
    assert len(all_ids(known, 3 * (6 + came) + 1)) == 3 * (6 + came) + 1
    assert guess.bad["shard: cut short"] in (1, 2)
    assert known.bad in (Counter({"shard: cut short": n * (8 - came)}) for n in (2, 3))
    (line,) = map(json.loads, (tmp_path / "bad_samples.jsonl").read_text().splitlines())
    assert (Path(line["shard"]).name, line["key"], line["reason"]) == ("1.tar", "", "shard: cut short")


def test_shards_without_a_usable_sample_stop_the_run(pack: Pack) -> None:
    paths = [pack(f"{n}.tar", texts(n, 2)) for n in range(3)]
    for path in paths:
        path.write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(UserError, match="none of the 3 shards contains a usable sample"):
        next(iter(loader(paths[0].parent, 2, missing="skip")))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as web:
        yield web


@pytest.mark.parametrize("faults", [[], ["cut short"], ["500", "stalls"], ["cut short", "503"]])
def test_remote_shards_are_streamed_in_spite_of_network_errors(pack: Pack, web: Web, faults: list[str]) -> None:
    paths = [pack(f"{n}.tar", texts(n, 40)) for n in range(2)]
    urls = [web.put(f"/s/{path.name}", path.read_bytes(), *faults) for path in paths]
    web.put("/s/0_stats.json", b'{"successes": 40}')
    local, remote = loader(paths[0].parent, 10, workers=1), loader(",".join(urls), 10, train=urls, workers=1)
    assert all_ids(remote, 12) == all_ids(local, 12)
    assert web.asked["/s/0.tar"] >= 1 + len(faults)


def test_a_remote_shard_that_became_shorter_is_an_error(pack: Pack, web: Web) -> None:
    """The connection breaks, and the new file ends before the position that was reached."""
    stream = ReconnectingStream(web.put("/s/0.tar", b"x" * 8000, "stalls"), QUICK)
    assert stream.read(500) == b"x" * 500
    web.put("/s/0.tar", b"x" * 300)
    with pytest.raises(Damage, match=r"/s/0\.tar could not be fetched in 3 tries: it ended after 300 of \d+ bytes"):
        stream.readall()


def test_a_missing_remote_shard_is_named_without_its_token(pack: Pack, web: Web) -> None:
    there = web.put("/s/0.tar", pack("0.tar", texts(0, 5)).read_bytes())
    absent = f"{web.url}/s/1.tar?token=secret"
    with pytest.raises(UserError, match=r"/s/1\.tar is damaged: .*does not exist") as error:
        all_ids(loader("", 2, train=[there, absent]), 9)
    assert "secret" not in str(error.value)
    skipping = loader("", 5, train=[there, absent], missing="skip")
    assert len(set(all_ids(skipping, 4))) == 5
    assert set(skipping.bad) == {"shard: cannot be fetched"}
    assert skipping.bad.total() in (3, 4)
