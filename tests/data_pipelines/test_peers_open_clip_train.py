"""The training and validation pipelines of open_clip read our shards."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import ImageIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.transforms.crop import CentreView

pytest.importorskip("pandas")  # which open_clip_train imports and open_clip_torch does not bring along
peer = pytest.importorskip("open_clip_train.data")

SIZE = 64
Pair = tuple[bytes, bytes]


def tokenize(captions: list[str] | str) -> torch.Tensor:
    """Bytes as tokens, so that the caption can be read from them."""
    listed = [captions] if isinstance(captions, str) else captions
    return torch.tensor([list(caption.encode().ljust(48)[:48]) for caption in listed])


def pixels(picture: object) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())


INTAKES: dict[str, Intake] = {"image": ImageIntake((SIZE, SIZE)), "text": TextIntake(tokenize)}


def arguments(shards: str, batch_size: int, samples: int) -> SimpleNamespace:
    return SimpleNamespace(
        train_data=shards,
        val_data=shards,
        train_num_samples=samples,
        val_num_samples=samples,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=batch_size,
        workers=0,
        world_size=1,
    )


def pairs(images: torch.Tensor, texts: torch.Tensor) -> list[Pair]:
    return [(i.numpy().tobytes(), t.numpy().tobytes()) for i, t in zip(images, texts, strict=True)]


@pytest.fixture
def shards(tmp_path: Path, picture: Callable[..., bytes]) -> Path:
    """48 samples in three shards."""
    for shard in range(3):
        samples = [
            {"__key__": f"{shard}{i:02d}", "png": picture(16 * shard + i, (SIZE, SIZE)), "txt": f"{shard} {i}"}
            for i in range(16)
        ]
        write_shard(tmp_path / f"{shard:06d}.tar", samples)
    return tmp_path


@pytest.fixture
def world(tmp_path: Path) -> Path:
    config = WorldConfig(
        train=60, val=0, combinations=0, samples_per_shard=25, missing={"image": 0.2, "text": 0.1}, workers=1
    )
    return generate(config, tmp_path / "world") / "train"


def test_open_clip_train_reads_the_same_pairs_in_an_epoch(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read each pair once, with equal pixels. It cannot handle the end marks that webdataset 1 adds to a shard."""
    monkeypatch.setattr(peer, "tar_file_expander", partial(peer.tar_file_expander, eof_value=None))
    info = peer.get_wds_dataset(arguments(f"{shards}/{{000000..000002}}.tar", 8, 48), pixels, True, tokenizer=tokenize)
    theirs = [pair for images, texts in info.dataloader for pair in pairs(images, texts)]
    data = DataConfig.model_validate({"train": str(shards), "workers": 0, "crop": None, "exact_images": True})
    loader = Loader(data, {"train": open_shards(str(shards))}, INTAKES, 8, seed=0)
    batches = [batch for batch, _ in zip(loader, range(6), strict=False)]
    ours = [pair for batch in batches for pair in pairs(batch.fields["image"].values, batch.fields["text"].values)]
    assert info.dataloader.num_samples == 48
    assert Counter(theirs) == Counter(ours)
    assert len(set(ours)) == 48


def test_open_clip_train_validates_on_the_generated_pairs(world: Path) -> None:
    """It skips samples without a picture or caption, and takes all lines of `.txt` as one caption."""
    spec = f"{world}/{{000000..000002}}.tar"
    info = peer.get_wds_dataset(arguments(spec, 16, 0), pixels, False, tokenizer=tokenize)
    theirs = [pair for images, texts in info.dataloader for pair in pairs(images, texts)]
    source = open_shards(str(world))
    decode = Decoder(source, INTAKES, SplitConfig(source=str(world)), exact_images=True)
    samples = [one for one in decode(range(len(source)), [CentreView()] * len(source)) if isinstance(one, Sample)]
    seen = [(one.image, "\n".join(one.text)) for one in samples if one.image is not None and one.text]
    whole = [(torch.from_numpy(image.transpose(2, 0, 1)[None]), text) for image, text in seen]
    assert 0 < len(whole) < len(samples) == 60
    assert theirs == [pair for image, text in whole for pair in pairs(image, tokenize(text))]
