import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer, basic_clean, whitespace_clean

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.text import cleaned, decode_captions, decode_meta, negatives_of

REAL = [
    "a red circle to the left of a blue square",
    "  two   dogs\tin the\nsnow ",
    "ein großer roter Kreis über dem Würfel",
    "schÃ¶nes CafÃ© in ZÃ¼rich",
    "Tom &amp; Jerry &ndash; “The Movie” (1992)",
    "20&amp;#37; off &lt;today&gt;",
    "ＬＯＵＤ ﬁgures\u200b of\u00a0speech",
    "\x1b[31mred\x1b[0m and\x07 bells",
    "一只猫坐在沙发上看电视",
    "half of a \ud83d pair",
]


@pytest.mark.parametrize("caption", REAL)
def test_captions_are_cleaned_as_open_clip_cleans_them(caption: str) -> None:
    assert cleaned(caption) == whitespace_clean(basic_clean(caption))


@given(st.text(st.characters(max_codepoint=0x17F), max_size=40) | st.text(max_size=40))
def test_cleaning_equals_open_clip_applied_until_nothing_changes(caption: str) -> None:
    passes = [caption]
    for _ in range(4):
        passes.append(whitespace_clean(basic_clean(passes[-1])))
    assert cleaned(caption) in passes[1:]
    assert cleaned(cleaned(caption)) == cleaned(caption) == whitespace_clean(basic_clean(cleaned(caption)))


@pytest.mark.parametrize("caption", ["I <3 &ldquo;you&rdquo;", "salt &amp;amp;amp;amp; pepper", *REAL])
def test_tokenizers_with_and_without_cleaning_see_the_same_text(caption: str) -> None:
    cleaning, trusting = SimpleTokenizer(clean="whitespace"), SimpleTokenizer(clean="whitespace")
    trusting.clean_fn = str
    assert cleaning([cleaned(caption)]).tolist() == trusting([cleaned(caption)]).tolist()


def test_a_very_long_caption_is_cut() -> None:
    for endless in ("ä" * 2**14, "ä" * 2**15):
        assert cleaned(endless) == "ä" * 2**14
    assert cleaned("&amp;" * 2**14) == "&" * (2**14 // 5 + 1)  # HTML reads `&amp` so, too
    assert decode_captions(b"a\n" * 2**20) == ("a",) * 2**19
    assert decode_captions("ä".encode() * 2**20) == ("ä" * 2**19,)
    assert decode_captions(b"a" + "ä".encode() * 2**20) == ("a" + "ä" * (2**19 - 1),)


def test_each_line_is_a_caption() -> None:
    assert decode_captions("\ufeffein roter Kreis\r\n\n  a red circle \n".encode()) == (
        "ein roter Kreis",
        "a red circle",
    )
    assert decode_captions(b" \n\t\n") == decode_captions(b"") == ()


def test_captions_that_are_not_utf8_are_bad() -> None:
    with pytest.raises(BadSample, match="text: not UTF-8"):
        decode_captions(b"caf\xe9")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"{", "unreadable"), (b"\xff\xfe", "unreadable"), (b"[1]", "object"), (b"[" * 100_000, "unreadable")],
)
def test_unusable_json_is_bad(data: bytes, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        decode_meta(data)


def test_json_values_are_read_unchanged() -> None:
    meta = {"caption": "Ä “b” \ud83d", "list": [1, None, {"text": "x"}], "exif": "{}"}
    assert decode_meta(json.dumps(meta).encode()) == meta


def test_negatives_are_cleaned_like_captions() -> None:
    wrong = [{"kind": "swap", "text": "x &amp; y"}, {"kind": "replace", "text": " ein  WÃ¼rfel"}]
    assert negatives_of({"negatives": wrong}) == ("x & y", "ein Würfel")
    assert negatives_of({}) == ()
    for malformed in ("x", ["x"], [{"kind": "swap"}], {"text": "x"}):
        with pytest.raises(BadSample, match="negatives"):
            negatives_of({"negatives": malformed})
