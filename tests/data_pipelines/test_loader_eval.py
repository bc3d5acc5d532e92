import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import AudioIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import Shards, open_shards

INTAKES: dict[str, Intake] = {
    "audio": AudioIntake(8000, 0.05),
    "text": TextIntake(lambda captions: torch.tensor([[int((caption.split() or "0")[-1])] for caption in captions])),
}
LENGTHS = [100 + 37 * i for i in range(23)]


@pytest.fixture
def shards(pack: Callable[..., Path], sound: Callable[..., bytes]) -> Shards:
    samples = [
        {
            "__key__": f"k{i}",
            "wav": sound(np.full(length, i / 64), 8000, "WAV"),
            "txt": f"first {i}\nsecond {-i}",
            "json": json.dumps({"negatives": [{"kind": "swap", "text": f"not {i}"}], "source": "test"}).encode(),
        }
        for i, length in enumerate(LENGTHS)
    ]
    return open_shards(str(pack("s.tar", samples)))


def decoder(shards: Shards) -> Decoder:
    return Decoder(shards, INTAKES, SplitConfig(source="here"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 5])
def test_all_ranks_together_read_each_sample_once_in_order(shards: Shards, world: int, workers: int) -> None:
    ids = [
        id
        for rank in range(world)
        for batch in EvalLoader(decoder(shards), INTAKES, 4, rank=rank, world=world, workers=workers)
        for id in batch.ids.tolist()
    ]
    assert ids == list(range(23))


def test_sounds_are_whole_and_padded_with_silence(shards: Shards) -> None:
    for batch in EvalLoader(decoder(shards), INTAKES, 20):
        field = batch.fields["audio"]
        assert field.lengths is not None
        assert field.lengths.tolist() == [LENGTHS[id] for id in batch.ids]
        for id, wave, length in zip(batch.ids.tolist(), field.values, field.lengths.tolist(), strict=True):
            assert wave[:length].tolist() == [id / 64] * length
            assert not wave[length:].any()


def test_the_first_caption_is_tokenized_and_all_captions_are_kept(shards: Shards) -> None:
    evaluation = EvalLoader(decoder(shards), INTAKES, 23)
    for _ in range(2):  # it can be walked again
        (batch,) = evaluation
        assert batch.fields["text"].values.tolist() == [[i] for i in range(23)]
        for i, sample in enumerate(batch.samples):
            assert (sample.key, sample.text) == (f"k{i}", (f"first {i}", f"second {-i}"))
            assert sample.meta["source"] == "test"
            assert sample.audio is None


def test_every_caption_is_a_row_of_its_sample(shards: Shards) -> None:
    for captions, count in ((None, 2), (5, 2), (1, 1)):
        (batch,) = EvalLoader(decoder(shards), INTAKES, 23, captions=captions)
        text = batch.fields["text"]
        assert text.item.tolist() == [item for item in range(23) for _ in range(count)]
        own = [[i] if row == 0 else [-i] for i in range(23) for row in range(count)]
        assert text.values.tolist() == own
        assert len(batch.fields["audio"]) == 23
