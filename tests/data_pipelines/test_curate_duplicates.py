"""Planted copies of pictures, sounds and captions are in one cluster, and nothing else is."""

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.duplicates.clusters import CLOSE, MOST, Clusters, candidates
from tercet.data_pipelines.curate.duplicates.group import score_duplicates
from tercet.data_pipelines.curate.duplicates.prints import PrintReader
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.processes import server
from tercet.testing import on_ranks
from tests.data_pipelines.curated import PIECE, killed, on_rank, png, rows, scored, wav, written

SCENES, SAMPLES = 24, 72
RATE = 8000
BROKEN = 71


def duplicates(task: ScoreTask, split: SplitConfig) -> ScoreGroup:
    return score_duplicates(task, split, workers=1)


def picture(scene: int, copy: int) -> bytes:
    """The second copy is smaller, the third is cropped and saved at a low quality."""
    coarse = np.random.default_rng(scene).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((240, 200), Image.Resampling.BICUBIC)
    if copy == 1:
        image = image.resize((180, 150))
    if copy == 2:
        image = image.crop((0, 0, 235, 200))
    return png(np.asarray(image), "JPEG" if copy else "PNG", **({"quality": 60} if copy == 2 else {}))


def sound(scene: int, copy: int) -> bytes:
    """Tones that change. The second copy is quieter, the third is of another rate and codec."""
    draw = np.random.default_rng(scene)
    pitch = np.repeat(draw.uniform(200, 2000, 12), RATE // 8)
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.repeat(draw.uniform(0.2, 0.9, 12), RATE // 8)
    if copy == 2:
        from scipy.signal import resample

        return wav(resample(wave, 2 * len(wave)), 2 * RATE, "OGG", "VORBIS")
    return wav(wave * (1, 0.4)[copy], RATE)


def scene_of(number: int) -> tuple[int, int]:
    """Each scene comes three times."""
    return number % SCENES, number // SCENES


def sample(number: int) -> dict[str, bytes]:
    """Scenes 0 to 11 have pictures, 6 to 17 sounds. The second copy of the scenes from 9 on has another sound."""
    scene, copy = scene_of(number)
    files = {"txt": f"A {'dog' if scene % 2 else 'cat'}, {('seen', 'SEEN', 'seen')[copy]} {scene}!".encode()}
    if scene < 12:
        files["png" if copy == 0 else "jpg"] = picture(scene, copy)
    if 6 <= scene < 18:
        files["wav" if copy < 2 else "ogg"] = sound(scene + 100 * (copy == 1 and scene > 8), copy)
    if scene == 3:
        files[min(files)] = png(np.full((64, 64, 3), copy, np.uint8))  # of one colour
    if number == BROKEN:
        files["txt"] = b"\xff"
    return files


def expected(number: int) -> dict[str, int | None]:
    """The id of the first sample with the same medium."""
    scene, copy = scene_of(number)
    image = None if scene >= 12 else number if scene == 3 else scene
    audio = None if not 6 <= scene < 18 else number if scene > 8 and copy == 1 else scene
    return {"image_cluster": image, "audio_cluster": audio, "text_cluster": scene}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards"), sample, SAMPLES)


@pytest.fixture(scope="module")
def found(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows(scored(duplicates, shards, tmp_path_factory.mktemp("scores")))


def test_each_copy_is_in_the_cluster_of_its_first(found: list[dict[str, Any]]) -> None:
    assert [row["id"] for row in found] == [id for id in range(SAMPLES) if id != BROKEN]
    for row in found:
        assert {name: row[name] for name in expected(row["id"])} == expected(row["id"])


def test_a_cluster_shares_picture_and_sound_or_else_captions(found: list[dict[str, Any]]) -> None:
    def shared(id: int) -> tuple[int | None, ...]:
        same = expected(id)
        media = (same["image_cluster"], same["audio_cluster"])
        return media if any(one is not None for one in media) else (same["text_cluster"],) * 3

    for row in found:
        like = [other["id"] for other in found if shared(other["id"]) == shared(row["id"])]
        assert (row["cluster"], row["first"], row["size"]) == (min(like), row["id"] == min(like), len(like))


def test_two_ranks_find_the_same_clusters(shards: Path, found: list[dict[str, Any]], tmp_path: Path) -> None:
    on_ranks(on_rank, 2, duplicates, shards, tmp_path)
    assert rows(ScoreTable(tmp_path).group("duplicates")) == found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("after", [2, 10, 15])  # files that are written: pieces, fingerprints, clusters
def test_a_killed_command_resumes(after: int, shards: Path, found: list[dict[str, Any]], tmp_path: Path) -> None:
    process = server().Process(target=killed, args=(duplicates, shards, tmp_path, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    calls: list[int] = []
    read = PrintReader.__call__
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PrintReader, "__call__", lambda self, ids: calls.extend(ids) or read(self, ids))
        assert rows(scored(duplicates, shards, tmp_path)) == found
    assert calls == list(range(after * PIECE, SAMPLES))
    assert [path.name for path in tmp_path.rglob(".*")] == []


def flipped(hash: int, bits: int, dice: np.random.Generator) -> int:
    for bit in dice.permutation(64)[:bits].tolist():
        hash ^= 1 << bit
    return hash


def test_candidates_equal_a_naive_loop() -> None:
    """Random hashes, and copies of which up to 6 bits differ, with two views each."""
    dice = np.random.default_rng(0)
    first = [int(hash) for hash in dice.integers(0, 2**63, 30)]
    whole = np.array([flipped(first[row % 30], row % 7 if row >= 30 else 0, dice) for row in range(90)], np.uint64)
    other = np.array([flipped(first[(row + 1) % 30], row % 5, dice) for row in range(90)], np.uint64)
    views = np.stack([whole, other], axis=1)
    naive = {
        (q, n)
        for q in range(90)
        for n in range(90)
        if q != n and any(bin(int(whole[q]) ^ int(view)).count("1") <= CLOSE for view in views[n])
    }
    assert set(candidates([views])) == naive
    assert set(candidates([whole[:, None], other[:, None]])) == {
        (q, n)
        for q in range(90)
        for n in range(90)
        if q != n and any(bin(int(kind[q]) ^ int(kind[n])).count("1") <= CLOSE for kind in (whole, other))
    }


def test_a_sample_is_compared_with_the_nearest_of_many_candidates() -> None:
    hashes = np.array([[0], *[[1 << bit] for bit in range(40)], *[[3 << bit] for bit in range(20)]], np.uint64)
    pairs = [other for row, other in candidates([hashes]) if row == 0]
    assert len(pairs) == MOST
    assert max(pairs) <= 40  # those that differ in one bit


def test_clusters_are_the_components_of_the_pairs() -> None:
    dice = np.random.default_rng(1)
    pairs = [tuple(sorted(dice.integers(0, 50, 2).tolist())) for _ in range(30)]
    clusters = Clusters(50)
    for one, other in pairs:
        clusters.join(one, other)
    label = list(range(50))
    for _ in range(50):
        for one, other in pairs:
            label[one] = label[other] = min(label[one], label[other])
    assert clusters.first_N.tolist() == label


def test_a_pair_that_is_joined_already_is_not_looked_at() -> None:
    looked: list[tuple[int, int]] = []
    clusters = Clusters(4)
    clusters.join_equal(np.array([7, 7, 9], np.uint64), np.array([0, 1, 3]))
    hashes = np.zeros((4, 1), np.uint64)
    clusters.join_similar(np.arange(4), [hashes], lambda one, other: bool(looked.append((one, other))) or True)
    assert clusters.first_N.tolist() == [0, 0, 0, 0]
    assert len(looked) == 2
    assert not any(1 in pair for pair in looked)
