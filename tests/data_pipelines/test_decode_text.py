import pytest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.text import decode_captions, decode_meta, group_of, negatives_of


def test_captions_are_lines() -> None:
    assert decode_captions("\ufeffein roter Kreis\r\n\n  a red circle \n".encode()) == (
        "ein roter Kreis",
        "a red circle",
    )


@pytest.mark.parametrize(("data", "reason"), [(b"caf\xe9", "not UTF-8"), (b"", "empty"), (b" \n\t\n", "empty")])
def test_unusable_captions_are_bad(data: bytes, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        decode_captions(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"{", "unreadable"), (b"\xff\xfe", "unreadable"), (b"[1]", "object"), (b"[" * 100_000, "unreadable")],
)
def test_unusable_json_is_bad(data: bytes, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        decode_meta(data)


def test_groups_are_shared_by_name_and_never_by_chance() -> None:
    assert group_of({"group": 7}, 0) == group_of({"group": 7}, 1) == 7
    assert group_of({"group": "a red circle"}, 0) == group_of({"group": "a red circle"}, 1)
    named = {group_of({"group": f"caption {i}"}, 0) for i in range(2000)}
    alone = {group_of({}, id) for id in range(2000)}
    assert len(named) == len(alone) == 2000
    assert all(0 <= group < 2**63 for group in named)
    assert max(alone) < 0
    assert 0 <= group_of({"group": -3}, 0) < 2**63


def test_negatives_are_the_texts_of_the_list() -> None:
    assert negatives_of({"negatives": [{"kind": "swap", "text": "x"}, {"kind": "replace", "text": "y"}]}) == ("x", "y")
    assert negatives_of({}) == ()
    for wrong in ("x", ["x"], [{"kind": "swap"}], {"text": "x"}):
        with pytest.raises(BadSample, match="negatives"):
            negatives_of({"negatives": wrong})
