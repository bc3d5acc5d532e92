"""Compares statistics of a small dataset with plain loops over its files."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tercet.command import main
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.survey.language import TOO_SHORT, language, script
from tercet.data_pipelines.survey.stats import Stats, survey
from tercet.data_pipelines.survey.wording import templates, words

THINGS = ("dog", "cat", "boat", "tree", "car", "drum", "child", "river", "horse", "house", "violin")
RATES = (16000, 44100)
SAMPLES = 600


@pytest.fixture(scope="module")
def items(picture: Callable[..., bytes], sound: Callable[..., bytes]) -> list[dict[str, bytes]]:
    """Pictures in five sizes, sine tones, one to three captions; some are equal, some are missing."""
    rng, items = np.random.default_rng(0), []
    sizes = rng.integers(20, 90, (5, 2)).tolist()
    for number in range(SAMPLES):
        width, height = sizes[number % 5]
        things = rng.integers(len(THINGS), size=number % 3 + 1).tolist()
        captions = [f"a photo of a {THINGS[thing]} number {number % 50}" for thing in things]
        item = {
            "txt": "\n".join(captions).encode(),
            "json": json.dumps({"group": f"g{number // 4}"} if number < 100 else {}).encode(),
        }
        if number % 10:
            item["jpg" if number % 2 else "png"] = picture(number % 250, (width, height), ("png", "jpeg")[number % 2])
        if number % 3:
            rate, amplitude = RATES[number % 2], 10 ** -rng.uniform(0.1, 2)
            wave = amplitude * np.sin(2 * np.pi * 200 * np.arange(int(rate * rng.uniform(0.02, 0.3))) / rate)
            item["wav"] = sound(np.stack([wave] * (1 + number % 2), 1), rate, "WAV", "FLOAT")
        items.append(item)
    items[7]["jpg"] = b"<html>"
    items[8]["txt"] = b"\xff\xff"
    return items


@pytest.fixture(scope="module")
def source(items: list[dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        rows = enumerate(items[200 * shard : 200 * (shard + 1)])
        write_shard(folder / f"{shard}.tar", [{"__key__": f"{shard}-{row:03d}", **item} for row, item in rows])
    return open_shards(str(folder))


@pytest.fixture(scope="module")
def stats(source: Shards) -> Stats:
    return survey(source, 1)


def captions_of(items: list[dict[str, bytes]]) -> list[list[str]]:
    return [item["txt"].decode("utf-8", "replace").split("\n") for n, item in enumerate(items) if n != 8]


def test_pictures_are_measured(stats: Stats, items: list[dict[str, bytes]]) -> None:
    files = [data for item in items for name, data in item.items() if name in ("jpg", "png") and data != b"<html>"]
    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    values = stats.tally.values
    assert Counter(dict(stats.listed("image.size"))) == Counter(f"{w} × {h}" for w, h in sizes)
    assert values["image.bytes"].sum == sum(map(len, files))
    assert values["image.shorter"].quantile(0.5) == sorted(map(min, sizes))[(len(sizes) - 1) // 2]
    assert values["image.aspect"].most == max(w / h for w, h in sizes)
    assert dict(stats.listed("image.format")) == {"JPEG RGB": 299, "PNG RGB": 240}


def test_lengths_and_loudness_of_sounds_are_measured(stats: Stats, items: list[dict[str, bytes]]) -> None:
    heard = [soundfile.read(io.BytesIO(item["wav"]))[0] for item in items if "wav" in item]
    values = stats.tally.values
    assert values["audio.seconds"].count == values["audio.loudness"].count == len(heard) == 400
    assert dict(stats.listed("audio.rate")) == {"16 kHz": 200, "44.1 kHz": 200}
    assert dict(stats.listed("audio.channels")) == {"mono": 200, "stereo": 200}
    loudness = [float((wave**2).mean() ** 0.5) for wave in heard]
    assert values["audio.loudness"].sum == pytest.approx(sum(loudness))
    assert values["audio.loudness"].most == pytest.approx(max(loudness))


def test_captions_are_counted(stats: Stats, items: list[dict[str, bytes]]) -> None:
    captions = captions_of(items)
    flat = [caption for some in captions for caption in some]
    values = stats.tally.values
    assert values["text.captions"].count == SAMPLES - 1
    assert values["text.captions"].sum == len(flat) == values["text.words"].count
    assert values["text.words"].sum == sum(len(caption.split()) for caption in flat)
    assert values["text.characters"].sum == sum(map(len, flat))
    spread = Counter(word for caption in flat for word in set(caption.split()))
    assert stats.listed("text.word", 5) == sorted(spread.items(), key=lambda item: (-item[1], item[0]))[:5]
    repeated = Counter(flat)
    assert all(repeated[caption] == count > 1 for caption, count in stats.repeated_captions())
    assert stats.repeated_captions()[0][1] == max(repeated.values())
    assert stats.listed("text.script") == [("Latin", len(flat))]


def test_duplicates_are_found(stats: Stats, items: list[dict[str, bytes]]) -> None:
    for name, extensions in {"image": ("jpg", "png"), "audio": ("wav",)}.items():
        contents = Counter(item[e] for n, item in enumerate(items) for e in extensions if e in item and n != 7)
        assert stats.shared[name].sizes == Counter(count for count in contents.values() if count > 1)
    captions = Counter(caption for some in captions_of(items) for caption in set(some))
    assert stats.shared["text"].sizes == Counter(count for count in captions.values() if count > 1)
    assert stats.listed("json") == [("group", 100)]
    groups = Counter(n // 4 for n in range(100))
    assert stats.shared["group"].sizes == Counter(groups.values())
    assert stats.shared["group"].largest[0][0] == 4
    assert {place.key for _, place in stats.shared["group"].largest} == {f"0-{4 * n:03d}" for n in range(5)}


def test_missing_and_bad_samples_are_reported(stats: Stats, items: list[dict[str, bytes]]) -> None:
    lacking = {"audio": 200, "image": 60, "json": 0, "text": 0}
    assert dict(stats.lacking()) == lacking
    assert dict(stats.listed("bad")) == {"image: not a known format": 1, "text: not UTF-8": 1}
    assert sum(dict(stats.listed("files")).values()) == sum(map(len, items))


def test_results_do_not_depend_on_the_number_of_processes(source: Shards, stats: Stats) -> None:
    assert json.dumps(survey(source, 2).to_json()) == json.dumps(stats.to_json())


def test_a_random_sample_estimates_the_whole(source: Shards, stats: Stats) -> None:
    first, again = survey(source, 1, 300), survey(source, 1, 300)
    assert first.to_json() == again.to_json()
    assert (first.samples, first.tally.samples) == (SAMPLES, 300)
    share = first.tally.values["audio.seconds"].count / 300
    assert abs(share - 400 / 600) < 4 * np.sqrt(2 / 9 / 300)
    assert survey(source, 1, SAMPLES + 1).to_json() == stats.to_json()


def test_templates_are_common_parts_of_captions() -> None:
    captions = [f"A photo of a word{n} beside the word{n + 1}." for n in range(55)] + ["two dogs"] * 2
    assert templates(captions, 5) == [("a photo of a … beside the …", 55)]
    assert templates(["one", "two"], 5) == []


def test_words_are_split_as_people_write_them() -> None:
    assert words("A dog's well-known Bone, 3 m_ago!") == ["a", "dog's", "well-known", "bone", "3", "m", "ago"]


@pytest.mark.parametrize(
    ("caption", "of"),
    [
        ("a dog in Москва", "Latin"),
        ("собака бежит", "Cyrillic"),
        ("狗在公园里", "Cjk"),
        ("강아지", "Hangul"),
        ("1234 !", "no letters"),
    ],
)
def test_the_script_is_that_of_most_letters(caption: str, of: str) -> None:
    assert script(caption) == of


@pytest.mark.parametrize(
    ("caption", "of"),
    [
        ("two dogs are playing with a ball in the park", "en"),
        ("zwei Hunde spielen mit einem Ball auf der Wiese", "de"),
        ("deux chiens jouent avec un ballon dans le parc", "fr"),
        ("二匹の犬が公園でボール遊びをしています", "ja"),
        ("cat", TOO_SHORT),
    ],
)
def test_languages_are_recognised(caption: str, of: str) -> None:
    pytest.importorskip("py3langid")
    assert language(caption) == of


def test_data_stats_prints_json_or_a_table(source: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards, page = [record.shard for record in source.records], tmp_path / "new" / "stats.html"
    assert main(["data", "stats", *shards, "--workers", "1", "--json", "--sample", "40"]) == 0
    assert json.loads(capsys.readouterr().out)["surveyed"] == 40
    assert main(["data", "stats", *shards, "--workers", "1", "--out", str(page)]) == 0
    assert "600 samples in 3 shards" in capsys.readouterr().out
    assert page.is_file()
