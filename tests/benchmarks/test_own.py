"""What is compared is the same on both sides: the loop's gradients, and a table's files and those of the shards."""

import csv
import tarfile
from pathlib import Path

import pytest
import torch

from tercet.benchmarks.own.loop import gradients, true_gradients
from tercet.benchmarks.own.table import csv_of_pictures
from tercet.testing import on_ranks


def test_the_table_holds_what_the_shards_hold(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    from tercet.benchmarks.loader.shards import picture_shards

    packed = []
    for shard in picture_shards(tmp_path / "shards", 256):
        with tarfile.open(shard) as tar:
            files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        packed += [(files[f"{stem}.jpg"], files[f"{stem}.txt"].decode()) for stem in sorted({n[:6] for n in files})]
    table = csv_of_pictures(tmp_path / "photos")
    with table.open(newline="", encoding="utf-8") as rows:
        laid_out = [((table.parent / row["path"]).read_bytes(), row["caption"]) for row in csv.DictReader(rows)]
    assert laid_out == packed


@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_both_losses_give_the_loop_the_gradient_of_the_whole_batch(who: str) -> None:
    truth = true_gradients(96)
    for found in on_ranks(gradients, 2, who, 96):
        for one, other in zip(found, truth, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)
