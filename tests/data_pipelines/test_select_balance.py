"""MetaCLIP's balance: matches, probabilities and thresholds against loops, expected counts against the closed form."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.curate.rules.matching import Matcher, words
from tercet.data_pipelines.curate.rules.stages import stages_in
from tercet.data_pipelines.curate.rules.tail import entry_probability, keep_probability, tail_share, threshold_of
from tercet.errors import UserError
from tests.data_pipelines.scored import chosen, decision, kept, scored

ENTRIES = ["dog", "cat", "hot dog", "dog house", "New York", "a", "it's", "dog", "", "狗", "狗屋"]
CAPTIONS = [
    "A hot dog house.", "Hotdogs", "dogs, cat; NEW   york!", "new-york", "It's a dog", "", "…", "一只狗屋", "狗",
]  # fmt: skip


def naive_matches(caption: str) -> list[int]:
    """Each entry is looked for in the caption, as MetaCLIP's own loop does, with a space around both."""
    spaced = [f" {' '.join(words(text))} " for text in (*ENTRIES, caption)]
    found = {entry: number for number, entry in reversed(list(enumerate(spaced[:-1])))}
    return sorted(number for entry, number in found.items() if entry.strip() and entry in spaced[-1])


@pytest.mark.parametrize("number", range(len(CAPTIONS)))
def test_matches_are_those_of_a_loop_over_the_entries(number: int) -> None:
    assert Matcher(ENTRIES)(CAPTIONS[number]) == naive_matches(CAPTIONS[number])


def test_entries_are_whole_words_except_in_scripts_without_spaces() -> None:
    found = [[ENTRIES[one] for one in Matcher(ENTRIES)(caption)] for caption in CAPTIONS]
    assert found[0] == ["dog", "hot dog", "dog house", "a"]
    assert found[1] == []
    assert found[2] == ["cat", "New York"]
    assert found[7] == ["狗", "狗屋"]


def test_keep_probabilities_are_those_of_the_formula() -> None:
    count_E = np.array([3, 500, 20, 19, 1000])
    probability_E = entry_probability(count_E, 20)
    assert probability_E.tolist() == [1, 0.04, 1, 1, 0.02]
    matches = [[1], [], [1, 4], [0, 1], [4], [], [1, 1]]
    entry_M, size_n = np.array([one for each in matches for one in each]), np.array(list(map(len, matches)))
    expected = [1 - math.prod(1 - 20 / max(int(count_E[one]), 20) for one in each) for each in matches]
    assert keep_probability(entry_M, size_n, probability_E) == pytest.approx(expected, abs=1e-15)


def test_the_threshold_of_another_language_has_the_same_share_of_the_tail() -> None:
    dice = np.random.default_rng(0)
    main_E, other_E = (dice.zipf(1.6, size).clip(max=10**6) for size in (3000, 500))
    share = tail_share(main_E, 40)
    assert share == pytest.approx(sum(count for count in main_E.tolist() if count < 40) / sum(main_E.tolist()))
    t, ascending = threshold_of(other_E, share), sorted(other_E.tolist())
    distance = {}
    for place, count in enumerate(ascending):
        distance.setdefault(count, []).append(abs(sum(ascending[: place + 1]) / sum(ascending) - share))
    assert min(distance[t]) == min(map(min, distance.values()))
    assert threshold_of(other_E * 7, share) == 7 * t


def test_captions_of_one_entry_are_kept_t_times_in_expectation(tmp_path: Path) -> None:
    """Entry e is in 40 x (e + 1) captions, each with that entry alone: min(count, t) are expected to stay."""
    texts = [f"word{entry}" for entry in range(20) for _ in range(40 * (entry + 1))]
    table = scored(tmp_path, {"signals": {"text": texts}})
    seeds = [
        chosen(table, [{"balance": {"t": 200, "least": 1, "seed": seed}}], f"seed{seed}").kept for seed in range(8)
    ]
    probability = np.array(decision(table, "seed0")["probability"])
    for entry in range(20):
        of_entry = probability[[text == f"word{entry}" for text in texts]]
        assert of_entry.sum() == pytest.approx(min(len(of_entry), 200))
    deviation = np.sqrt((probability * (1 - probability)).sum() / len(seeds))
    assert abs(np.mean(seeds) - probability.sum()) < 5 * deviation
    assert len(set(seeds)) > 1


def test_every_step_is_that_of_a_loop(tmp_path: Path) -> None:
    """From the words of the data in two languages, to probabilities and to what concepts.csv counts."""
    dice = np.random.default_rng(5)
    texts = [" ".join(f"w{min(int(one), 90)}" for one in dice.zipf(1.5, dice.integers(1, 8))) for _ in range(600)]
    language = ["en" if id % 3 else "de" for id in range(600)]
    table = scored(tmp_path, {"signals": {"text": texts, "language": language}})
    rule = {"balance": {"t": 30, "least": 4, "language": "signals.language"}}
    chosen(table, [rule], workers=1)
    sets = [set(text.split()) for text in texts]
    counts: dict[str, dict[str, int]] = {"en": {}, "de": {}}
    for name, found in zip(language, sets, strict=True):
        for word in found:
            counts[name][word] = counts[name].get(word, 0) + 1
    counts = {name: {word: count for word, count in of.items() if count >= 4} for name, of in counts.items()}
    english = np.array(list(counts["en"].values()))
    t = {"en": 30, "de": threshold_of(np.array(list(counts["de"].values())), tail_share(english, 30))}
    expected = [
        1 - math.prod(1 - t[name] / max(counts[name][word], t[name]) for word in found if word in counts[name])
        for name, found in zip(language, sets, strict=True)
    ]
    found = decision(table)
    assert found["probability"] == pytest.approx(expected, abs=1e-12)
    assert t["de"] != 30
    with (table.folder / "chosen" / "concepts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["language"], row["entry"]): int(row["before"]) for row in rows} == {
        (name, word): count for name, of in counts.items() for word, count in of.items()
    }
    after = {(row["language"], row["entry"]): int(row["after"]) for row in rows}
    for (name, word), count in after.items():
        triples = zip(language, sets, found["keep"], strict=True)
        assert count == sum(keep for of, words, keep in triples if of == name and word in words)


def test_entries_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "entries.txt").write_text("dog\n\nhot dog\n")
    (tmp_path / "entries.json").write_text(json.dumps(["cat"]))
    texts = ["a hot dog", "dogs", "cat", None]
    table = scored(tmp_path / "scores", {"signals": {"text": texts, "language": ["en", "en", "de", "de"]}})
    assert kept(table, [{"balance": str(tmp_path / "entries.txt")}]) == [0]
    by_language = {"metadata": {"en": str(tmp_path / "entries.txt"), "de": str(tmp_path / "entries.json")}}
    assert kept(table, [{"balance": by_language | {"language": "signals.language"}}], "b") == [0, 2]


def test_concepts_are_nouns_and_adjectives(tmp_path: Path) -> None:
    table = scored(tmp_path, {"signals": {"text": ["a red dog runs", "the red cat", "it is on"]}})
    assert kept(table, [{"balance": {"metadata": "concepts", "least": 1}}]) == [0, 1]
    with (table.folder / "chosen" / "concepts.csv").open(newline="") as file:
        assert [row["entry"] for row in csv.DictReader(file)] == ["red", "cat", "dog"]


def test_parts_do_not_depend_on_workers_and_are_not_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two parts: 70,000 samples of which the first and the last 500 have captions."""
    ids = [*range(500), *range(69_500, 70_000)]
    texts = [f"w{id % 7} w{id % 31}" for id in ids]
    table = scored(tmp_path, {"signals": {"id": ids, "text": texts}}, samples=70_000)
    rule = {"balance": {"t": 40, "least": 1}}
    assert chosen(table, [rule], "one", workers=1).kept == chosen(table, [rule], "two", workers=2).kept
    assert decision(table, "one") == decision(table, "two")
    assert re.search(r"balance: words, t = 40: matched 70,000 captions, [\d,]+ a minute", capsys.readouterr().err)


def test_a_killed_rule_keeps_the_parts_that_it_has_matched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [0, 1, 66_000]
    table = scored(tmp_path, {"signals": {"id": ids, "text": ["a dog", "a cat", "a dog"]}}, samples=66_001)
    from tercet.data_pipelines.curate.rules import balance

    match_part, calls = balance.match_part, list[int]()

    def killed(path: Path, part: object) -> object:
        calls.append(len(part["id"]))  # type: ignore[index]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return match_part(path, part)

    monkeypatch.setattr(balance, "match_part", killed)
    rules = [{"balance": {"metadata": "words", "least": 1}}]
    with pytest.raises(KeyboardInterrupt):
        chosen(table, rules)
    assert kept(table, rules) == ids
    assert calls == [65_536, 465, 465]
    assert not (table.folder / ".chosen").exists()


MISTAKES = {
    "no file": ({"metadata": "gone.txt"}, "the entries gone.txt cannot be read"),
    "no entries": ({"metadata": "{folder}/empty.txt"}, "has no entries; give one a line"),
    "no frequent word": ({"least": 9}, "no word is in 9 captions; lower `least`"),
    "no main language": ({"least": 1, "language": "'fr'"}, "no caption is in `en`; set `main` to one of fr"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line(mistake: str, tmp_path: Path) -> None:
    options, message = MISTAKES[mistake]
    (tmp_path / "empty.txt").write_text("\n")
    options = {name: str(value).format(folder=tmp_path) for name, value in options.items()}
    table = scored(tmp_path / "scores", {"signals": {"text": ["a dog"]}})
    with pytest.raises(UserError, match=message):
        chosen(table, [{"balance": options}])
    assert stages_in([{"balance": options}], "rules")[0].rules[0].label.startswith("balance: ")
