import json
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.data_pipelines.bad_samples import BadSample, BadSampleLog, Fault
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import AudioIntake, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.errors import UserError
from tests.data_pipelines.memory import Captions

INTAKES: dict[str, Intake] = {
    "image": ImageIntake((8, 8)),
    "audio": AudioIntake(8000, 0.02),
    "text": TextIntake(lambda captions: torch.tensor([[len(caption)] for caption in captions])),
}
REASONS = (
    "image: truncated or damaged",
    "audio: not a known format",
    "audio: not finite",
    "text: not UTF-8",
    "text: empty",
    "none of the run's modalities",
)


@pytest.fixture
def shards(pack: Callable[..., Path], picture: Callable[..., bytes], sound: Callable[..., bytes]) -> Shards:
    """54 good samples, and among them one of each kind of bad one: ids 9, 19, …, 59."""
    wave = np.linspace(-0.5, 0.5, 200)
    good = {"png": picture(0, (100, 100)), "wav": sound(wave, 8000, "WAV"), "txt": b"a caption"}
    broken: list[dict[str, bytes | None]] = [
        {"png": good["png"][: len(good["png"]) // 2]},
        {"wav": b""},
        {"wav": sound(np.insert(wave, 100, np.nan), 8000, "WAV", "FLOAT")},
        {"txt": b"caf\xe9"},
        {"txt": b"\n"},
        {"png": None, "wav": None, "txt": None, "json": b"{}"},
    ]
    files = [{**good, **(broken[i // 10] if i % 10 == 9 else {})} for i in range(60)]
    samples = [{"__key__": f"k{i}", **{k: v for k, v in file.items() if v is not None}} for i, file in enumerate(files)]
    return open_shards(str(pack("s.tar", samples)))


def loader(shards: Shards, batch_size: int, max_bad: float = 1.0, workers: int = 0, **options: object) -> Loader:
    data = DataConfig(train="here", streams=4, max_bad=max_bad, workers=workers, worker="thread")
    return Loader(data, {"train": shards}, INTAKES, batch_size, seed=1, **options)  # type: ignore[arg-type]


def test_each_bad_sample_is_reported_with_its_reason(shards: Shards) -> None:
    decode = Decoder(shards, INTAKES, SplitConfig(source="here"))
    evaluation = EvalLoader(decode, INTAKES, 16, max_bad=1.0)
    assert sum(map(len, evaluation)) == 54
    ids = [id for batch in evaluation for id in batch.ids.tolist()]  # a second walk counts afresh
    assert ids == [id for id in range(60) if id % 10 != 9]
    assert evaluation.bad_log.seen == 60
    shard = shards.shard(0)
    assert evaluation.faults == [Fault(shard, f"k{10 * n + 9}", 10 * n + 9, reason) for n, reason in enumerate(REASONS)]


def test_substitutes_fill_every_batch_and_all_samples_are_counted(shards: Shards, tmp_path: Path) -> None:
    training = loader(shards, 60, folder=tmp_path)
    batches = list(islice(training, 4))
    ids = [batch.ids.tolist() for batch in batches]
    assert all(len(epoch) == 60 and set(epoch) == {id for id in range(60) if id % 10 != 9} for epoch in ids)
    assert training.bad_log.seen == 240 + training.bad.total()
    assert set(training.bad) == set(REASONS)
    assert min(training.bad.values()) >= 4  # once in each epoch; more where one was drawn as a substitute
    lines = (tmp_path / "bad_samples.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == [9, 19, 29, 39, 49, 59]


@pytest.mark.parametrize("world", [2, 3])
def test_substitutes_and_counts_do_not_depend_on_the_number_of_ranks(shards: Shards, world: int) -> None:
    whole = loader(shards, 30)
    ranks = [loader(shards, 30, rank=rank, world=world, workers=rank) for rank in range(world)]
    together = [batch.ids.tolist() for batch in islice(whole, 5)]
    parts = [[batch.ids.tolist() for batch in islice(rank, 5)] for rank in ranks]
    assert [list(chain(*batch)) for batch in zip(*parts, strict=True)] == together
    assert sum((rank.bad for rank in ranks), Counter()) == whole.bad


def test_too_many_bad_samples_stop_the_run_with_their_counts(shards: Shards) -> None:
    with pytest.raises(
        UserError, match=r"of \d+ samples are bad, more than data.max_bad = 0.01 .*× text: empty"
    ) as error:
        list(islice(loader(shards, 20, max_bad=0.01), 30))
    assert "\n" not in str(error.value)


def test_shards_with_only_bad_samples_stop_the_run_at_once(pack: Callable[..., Path]) -> None:
    shards = open_shards(str(pack("s.tar", [{"__key__": str(i), "txt": b"\n"} for i in range(5)])))
    with pytest.raises(UserError, match=r"samples in a row are bad \(\d+ × text: empty\), the last in .*s\.tar"):
        next(iter(loader(shards, 4)))


def fault(id: int) -> Fault:
    return Fault("s.tar", str(id), id, "text: empty")


def test_only_bad_samples_in_a_row_are_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample of 50 is good. In the end all 80 substitutes of a sample are bad; earlier ones found a good one."""
    monkeypatch.setattr(Captions, "_files", lambda self, id: {"txt": b"fine"} if id == 7 else BadSample("made bad"))
    data = DataConfig.model_validate({"train": "here", "streams": 4, "max_bad": 1.0, "workers": 0})
    scarce = Loader(data, {"train": Captions("a", [50])}, {"text": INTAKES["text"]}, 32, seed=1)
    with pytest.raises(UserError, match=r"^81 samples in a row are bad \(81 × made bad\)"):
        list(islice(scarce, 50))


def test_samples_with_the_same_id_in_two_sources_are_both_logged(tmp_path: Path) -> None:
    bad_log = BadSampleLog(1.0, tmp_path / "bad.jsonl")
    faults = [Fault(shard, "k3", 3, "text: empty") for shard in ("a/0.tar", "b/0.tar")]
    for found in ([faults[0], faults[0]], faults):
        bad_log.note(4, found)
    lines = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert [json.loads(line)["shard"] for line in lines] == ["a/0.tar", "b/0.tar"]


def test_a_long_run_just_below_the_limit_does_not_stop() -> None:
    dice, bad_log = np.random.default_rng(0), BadSampleLog(0.01)
    for step in range(5000):
        bad_log.note(20, [fault(step)] if dice.random() < 20 * 0.009 else [])
    assert bad_log.seen == 100_000


@pytest.mark.parametrize(("limit", "share"), [(0.01, 0.05), (0.0, 0.01), (0.1, 0.3)])
def test_a_run_well_above_the_limit_stops_soon(limit: float, share: float) -> None:
    dice, bad_log = np.random.default_rng(0), BadSampleLog(limit)
    steps = [[fault(id)] if dice.random() < share else [] for id in range(2000)]
    with pytest.raises(UserError):
        list(map(bad_log.note, repeat(1), steps))
    assert 100 <= bad_log.seen < 500
