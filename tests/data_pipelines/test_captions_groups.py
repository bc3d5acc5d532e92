from collections.abc import Mapping

import pytest

from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.errors import UserError


def group(spec: str, id: int, files: Mapping[str, bytes] | None = None, **meta: object) -> int:
    return GroupReader(spec, CaptionReader({}))(files or {}, meta, id)


def test_equal_names_are_one_group_and_others_never_collide() -> None:
    assert group("json.group", 0, group=7) == group("json.group", 1, group=7) == 7
    assert group("json.scene.id", 0, scene={"id": "a"}) == group("json.scene.id", 1, scene={"id": "a"})
    named = {group("json.group", 0, group=f"thing {i}") for i in range(2000)}
    alone = {group("json.group", id, other=1) for id in range(2000)}
    assert len(named) == 2000
    assert all(0 <= one < 2**63 for one in named)
    assert alone == set(range(-2000, 0))
    assert [group("json.group", id, group="") for id in (3, 9)] == [-4, -10]
    assert 0 <= group("json.group", 0, group=-3) < 2**63
    assert 0 <= group("json.group", 0, group="\ud83d") < 2**63


@pytest.mark.parametrize(("spec", "extension"), [("image", "jpg"), ("image", "webp"), ("audio", "flac")])
def test_files_of_equal_bytes_are_one_group(spec: str, extension: str) -> None:
    same = [group(spec, id, {extension: b"bytes", "txt": str(id).encode()}) for id in (3, 9)]
    assert same[0] == same[1] >= 0
    assert group(spec, 3, {extension: b"other bytes"}) not in same
    assert group(spec, 3, {"txt": b"bytes"}) == -4
    assert extension in GroupReader(spec, CaptionReader({})).wanted


def test_captions_that_clean_to_the_same_are_one_group() -> None:
    same = {
        group("text", 0, {"txt": b"Tom & Jerry\na film"}),
        group("text", 1, {"txt": b" tom &amp;  JERRY \r\n\r\na film\n"}),
        group("text", 2, text=["Tom & Jerry", "A film"]),
    }
    assert len(same) == 1
    assert group("text", 0, {"txt": b"a film\nTom & Jerry"}) not in same
    assert group("text", 5) == -6


def test_group_text_reads_captions_from_the_places_of_the_source() -> None:
    reader = GroupReader("text", CaptionReader({"json.alt": 1}))
    first, second = (reader({"txt": txt}, {"alt": "the same"}, 0) for txt in (b"one", b"two"))
    assert first == second
    assert reader.wanted == {"json"}


@pytest.mark.parametrize("spec", ["", "group", "json", "json.", "jpg", "images"])
def test_a_group_that_no_file_can_give_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match=r"group: .* is unknown; (did you mean|known)"):
        GroupReader(spec, CaptionReader({}))
