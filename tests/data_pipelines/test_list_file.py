"""Lists of samples: files of all forms against Python's own csv module, and every mistake as one line."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.plans import list_file
from tercet.data_pipelines.plans.list_file import ListFile
from tercet.data_pipelines.plans.sample_list import list_of, read_list
from tercet.errors import UserError
from tests.data_pipelines.memory import Captions

SOURCE = Captions("a", [3, 0, 5, 2])


def written(folder: Path, text: str | bytes, name: str = "list.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def times(path: str) -> list[int]:
    return read_list(path, SOURCE).times_N.tolist()


def test_a_list_says_how_often_each_sample_appears(tmp_path: Path) -> None:
    once = written(tmp_path, "id\n7\n0\n")
    assert times(once) == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    often = written(tmp_path, "id,count\n7,3\n2,0\n0,300\n", "often.csv")
    listed = read_list(often, SOURCE)
    assert (listed.times_N.tolist(), listed.kept, listed.epoch) == ([300, 0, 0, 0, 0, 0, 0, 3, 0, 0], 2, 303)
    keys = written(tmp_path, 'key,count\n"7",3\n0,300\n', "keys.csv")
    assert times(keys) == times(often)
    assert list_of(SourceConfig(source="a", list=often), SOURCE).epoch == 303
    assert list_of(SourceConfig(source="a"), SOURCE) is None


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.integers(0, 10**6), st.integers(0, 65_534), min_size=1),
    st.sampled_from([4, 7, 64, 2**20]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_blocks_of_any_size_equal_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, int], block: int, end: str, spaced: bool, closed: bool
) -> None:
    """Also with spaces and empty lines, which the fast parser does not take."""
    lines = [f"{id},{' ' * spaced}{count}" for id, count in rows.items()]
    text = end.join(["id,count", *lines[:3], *[""] * spaced, *lines[3:]]) + end * closed
    path = written(tmp_path_factory.mktemp("list"), text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_file, "BLOCK", block)
        blocks = list(ListFile(path).blocks())
    read = [row for row in csv.reader(io.StringIO(text)) if row][1:]
    assert np.concatenate([one.named for one in blocks]).tolist() == [int(id) for id, _ in read]
    assert np.concatenate([one.count_n for one in blocks]).tolist() == [int(count) for _, count in read]
    numbers = [number for number, line in enumerate(text.splitlines(), start=1) if line][1:]
    assert np.concatenate([one.line_n for one in blocks]).tolist() == numbers


MISTAKES = {
    "an id that is not there": ("id\n3\n10\n", "line 3: a/0 has no id 10; ids go from 0 to 9"),
    "a negative count": ("id,count\n3,1\n4,-1\n", "line 3: `-1` is not a count; give a whole number from 0 to 65,534"),
    "half a sample": ("id,count\n4,0.5\n", "line 2: `0.5` is not a count"),
    "too many": ("id,count\n4,65535\n", "line 2: `65535` is not a count"),
    "a negative id": ("id\n-4\n", "line 2: `-4` is not an id; give whole numbers from 0 up, or a column `key`"),
    "an endless id": (f"id\n{10**30}\n", "is not an id"),
    "words": ("id\nfour\n", "line 2: `four` is not an id"),
    "a missing count": ("id,count\n4\n", "line 2: 1 values, but the header names id, count"),
    "twice": ("id\n3\n4\n3\n", "line 4: `3` is listed twice; remove one of the two"),
    "twice with other counts": ("id,count\n3,1\n3,2\n", "line 3: `3` is listed twice"),
    "no header": ("3\n4\n", "the first line is `3`, but a list begins with the names of its columns"),
    "nothing": ("", "the first line is ``"),
    "nothing kept": ("id,count\n3,0\n", "selects no sample of a/0; list some with a count above 0"),
    "nothing listed": ("id\n", "selects no sample of a/0"),
    "a key that is not there": ("key\n3\nten\n", "line 3: a/0 has no key `ten`"),
    "a key twice": ("key\n3\n3\n", "line 3: `3` is listed twice"),
    "no text": (b"key\n\xff\n", "from line 2 on: not CSV in UTF-8"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line_with_its_place(mistake: str, tmp_path: Path) -> None:
    text, message = MISTAKES[mistake]
    with pytest.raises(UserError) as refused:
        times(written(tmp_path, text))
    assert message in str(refused.value)
    assert str(tmp_path / "list.csv") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_repeated_id_is_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_file, "BLOCK", 4)
    with pytest.raises(UserError, match="line 6: `1` is listed twice"):
        times(written(tmp_path, "id\n1\n2\n3\n4\n1\n"))


@pytest.mark.parametrize("name", ["gone.csv", "."])
def test_a_list_that_is_not_a_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the list .* cannot be read \((No such file|Is a directory)"):
        ListFile(str(tmp_path / name))


def test_a_key_of_several_samples_is_refused(tmp_path: Path) -> None:
    class Alike(Captions):
        def key(self, id: int) -> str:
            return str(id % 8)

    source = Alike("b", [10])
    assert read_list(written(tmp_path, "key\n5\n"), source).times_N.tolist() == [0] * 5 + [1] + [0] * 4
    with pytest.raises(UserError, match="line 2: the key `1` names 2 samples of the source; list ids instead"):
        read_list(written(tmp_path, "key\n1\n", "two.csv"), source)


def test_a_part_ignores_keys_of_other_parts(tmp_path: Path) -> None:
    """Ids are refused: they number the whole source, and a part renumbers its samples."""
    keys = written(tmp_path, "key,count\n3,2\nelsewhere,1\n")
    assert Counter(read_list(keys, SOURCE, part=True).times_N.tolist()) == {0: 9, 2: 1}
    with pytest.raises(UserError, match=r"lists ids, which number all samples of a source, but `part` or `held_out`"):
        list_of(SourceConfig(source="a", part=(0, 0.5), list=written(tmp_path, "id\n3\n", "ids.csv")), SOURCE)


def test_the_digest_depends_on_the_content(tmp_path: Path) -> None:
    """And the cache keeps lists apart by content and source."""
    first, same = (written(tmp_path, "id\n3\n", name) for name in ("a.csv", "b.csv"))
    assert ListFile(first).digest() == ListFile(same).digest()
    before = read_list(first, SOURCE)
    other = Captions("other", [5])
    assert len(read_list(first, other).times_N) == 5
    written(tmp_path, "id\n4\n", "a.csv")
    after = read_list(first, SOURCE)
    assert before.digest != after.digest
    assert np.flatnonzero(after.times_N).tolist() == [4]
    assert ListFile(first).summary() == f"{first} (digest {after.digest}): 1 sample, 1 an epoch"
