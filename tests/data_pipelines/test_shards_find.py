import socket
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.data_pipelines.shards.find import find_shards, unbraced
from tercet.errors import UserError


def touched(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).touch()
    return [str(folder / name) for name in names]


def test_shards_are_found_by_folder_pattern_and_list(tmp_path: Path) -> None:
    paths = touched(tmp_path, "08.tar", "09.tar", "10.tar", "11.tar")
    touched(tmp_path, "notes.txt", "10_stats.json")
    assert find_shards(str(tmp_path)) == paths
    assert find_shards(f"{tmp_path}/*.tar") == paths
    assert find_shards(f"{tmp_path}/{{08..11}}.tar") == paths
    assert find_shards(f"{tmp_path}/{{09,1{{0..1}}}}.tar") == paths[1:]
    assert find_shards([paths[2], f"{tmp_path}/0*.tar"]) == paths[:3]


def test_file_names_that_look_like_patterns_are_found(tmp_path: Path) -> None:
    """And the `._` files that macOS writes on other disks are not shards."""
    for folder in ("run 1", "run [1]", "größe"):
        (tmp_path / folder).mkdir()
    shards = [touched(tmp_path, f"{folder}/0?#%.tar")[0] for folder in ("größe", "run 1", "run [1]")]
    touched(tmp_path, "run [1]/._0.tar", "run 1/01#%.tar")
    assert find_shards(shards) == shards
    assert find_shards(str(tmp_path / "run [1]")) == shards[2:]


def test_patterns_of_urls_are_expanded_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was asked"))
    found = find_shards(["s3://none.invalid/{b,a}/{00..11}.tar", "https://none.invalid/x.tar?signed=1"])
    assert found == [
        "https://none.invalid/x.tar?signed=1",
        *(f"s3://none.invalid/{folder}/{n:02d}.tar" for folder, n in product("ab", range(12))),
    ]


@given(st.integers(0, 1200), st.integers(0, 30), st.integers(1, 5))
def test_ranges_keep_their_width(first: int, more: int, width: int) -> None:
    spec = f"a/{{{first:0{width}d}..{first + more:0{width}d}}}-{{x,y}}.tar"
    numbers = [str(n).zfill(max(width, len(str(first)))) for n in range(first, first + more + 1)]
    assert unbraced(spec) == [f"a/{number}-{letter}.tar" for number in numbers for letter in "xy"]


@pytest.mark.parametrize("spec", ["nowhere", "nowhere/*.tar", "nowhere/{000..009}.tar", "empty"])
def test_missing_shards_are_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        find_shards(spec)
    assert spec.split("/")[0] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spec",
    [
        "pipe:cat a.tar",
        "pipe:curl https://none.invalid/a.tar",
        "file:///etc/a.tar",
        "ftp://none.invalid/a.tar",
        "simplecache::s3://none.invalid/a.tar",
        "ssh://none.invalid/{0..3}.tar",
    ],
)
def test_other_protocols_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match=r"name a path, or a URL of https, http, s3 or gs$"):
        find_shards(spec)


def test_a_shard_named_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touched(tmp_path, "0.tar", "1.tar")
    with pytest.raises(UserError, match=r"0\.tar is named twice"):
        find_shards([str(tmp_path), "0.tar"])
    with pytest.raises(UserError, match=r"https://none.invalid/a.tar is named twice") as error:
        find_shards(["https://me:secret@none.invalid/a.tar?token=1"] * 2)
    assert "secret" not in str(error.value)
    assert "token" not in str(error.value)


def test_a_descending_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"\{9\.\.0\} in a/\{9\.\.0\}\.tar counts down; write \{0\.\.9\}"):
        find_shards("a/{9..0}.tar")
