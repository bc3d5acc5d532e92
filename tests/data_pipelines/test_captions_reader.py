import math
from collections import Counter
from collections.abc import Mapping

import pytest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader, Captions
from tercet.data_pipelines.seeding import uniforms
from tercet.errors import UserError


def read(places: Mapping[str, float], txt: bytes | None = None, **meta: object) -> Captions:
    return CaptionReader(places)({} if txt is None else {"txt": txt}, meta)


@pytest.mark.parametrize(
    ("txt", "meta", "captions"),
    [
        (b"one\ntwo &amp; three\n", {"caption": "not asked"}, ("one", "two & three")),
        (None, {"caption": "later", "text": ["first", " second "]}, ("first", "second")),
        (None, {"caption": "a\nsingle   one"}, ("a single one",)),
        (None, {"captions": [{"text": "x"}, {"caption": "y", "id": 7}, ""]}, ("x", "y")),
        (None, {"text": None, "caption": "the next"}, ("the next",)),
        (None, {"text": {"text": "alone"}}, ("alone",)),
        (
            None,
            {"captions": {"en": "a dog", "zh_Hans": ["狗", "小狗"], "de": {"text": "ein Hund"}}},
            ("a dog", "狗", "小狗", "ein Hund"),
        ),
    ],
)
def test_default_places_are_tried_in_order(
    txt: bytes | None, meta: dict[str, object], captions: tuple[str, ...]
) -> None:
    assert read({}, txt, **meta).all == captions


@pytest.mark.parametrize(
    ("value", "caption"),
    [
        (["Rain", " a_small  dog ", "", "thunder"], "The sounds of Rain, a small dog and thunder."),
        (["rain", "wind"], "The sounds of rain and wind."),
        ("rain", "The sounds of rain."),
        ("rain, wind,", "The sounds of rain and wind."),
        ({"en": ["rain"], "de": ["Regen"]}, "The sounds of rain and Regen."),
    ],
)
def test_keywords_make_one_caption_by_a_template(value: object, caption: str) -> None:
    assert read({"keywords.tags": 1}, b"other", tags=value).all == (caption,)


def test_keywords_have_templates_of_their_own_and_may_be_missing() -> None:
    reader = CaptionReader({"keywords.about.tags": 1, "txt": 1}, templates=("{}!", "Hear {}."))
    assert reader.wanted == {"json", "txt"}
    found = reader({"txt": b"a dog"}, {"about": {"tags": ["x", "y"]}})
    assert found.all == ("x and y!", "Hear x and y.")
    assert {found.pick(place, caption) for place in (0.1, 0.9) for caption in (0.1, 0.9)} == {*found.all, "a dog"}
    assert reader({"txt": b"a dog"}, {"about": {"tags": []}}).all == ("a dog",)
    with pytest.raises(BadSample, match="text: empty"):
        read({"keywords.tags": 1}, tags=[" "])
    with pytest.raises(BadSample, match="json: a caption is not a string"):
        read({"keywords.tags": 1}, tags=[3])


def test_only_named_places_are_read_also_nested_keys() -> None:
    meta = {"rewrites": {"long": ["a", "b"], "short": "c"}, "text": "never"}
    assert read({"json.rewrites.long": 1}, b"no", **meta).all == ("a", "b")
    assert read({"json.rewrites.short": 1, "txt": 1}, b"no", **meta).all == ("c",)
    assert not read({"json.text.deeper": 1, "json.rewrites.none": 1}, b"no", **meta)
    assert not read({}, None, title="no caption")


@pytest.mark.parametrize(
    ("places", "txt", "meta", "shares"),
    [
        ({"txt": 1, "json.more": 3}, b"a\nb\n", {"more": ["c"]}, {"a": 1 / 8, "b": 1 / 8, "c": 3 / 4}),
        ({"txt": 1, "json.more": 3}, b"a\nb\n", {}, {"a": 1 / 2, "b": 1 / 2}),
        ({"json.none": 8, "txt": 0.5, "json.more": 0.5}, b"a", {"more": ["b", "c"]}, {"a": 0.5, "b": 0.25, "c": 0.25}),
        ({"txt": 0, "json.more": 1}, b"a", {"more": ["b"]}, {"b": 1.0}),
        ({"txt": 0, "json.more": 1}, b"a", {}, {"a": 1.0}),
        ({"txt": 1, "json.more": 1}, b"a", {"more": []}, {"a": 1.0}),
        ({}, b"a\nb\n", {"text": "c"}, {"a": 0.5, "b": 0.5}),
    ],
)
def test_places_are_chosen_by_weight_and_their_captions_evenly(
    places: dict[str, float], txt: bytes, meta: dict[str, object], shares: dict[str, float]
) -> None:
    captions = read(places, txt, **meta)
    draws = uniforms("test", 1, 0, range(4000), 2).tolist()
    counts = Counter(captions.pick(*draw) for draw in draws)
    assert set(counts) == set(shares)
    for caption, share in shares.items():
        assert abs(counts[caption] - 4000 * share) <= 5 * math.sqrt(4000 * share * (1 - share))


def test_a_rewrite_of_too_few_words_is_replaced_by_an_original() -> None:
    """As in LaCLIP: one of the original and four rewrites, or the original if the rewrite has fewer than two words."""
    rewrites = ["a red round thing", "red", " ", "&nbsp;x", "the circle is red"]
    reader = CaptionReader({"txt": 1, "json.rewrites": 5}, least=2)
    captions = reader({"txt": b"one original\ntwo originals"}, {"rewrites": rewrites})
    drawn = {round(6 * (place + 0.5), 1): captions.pick(0.5, place) for place in [(n + 0.5) / 4 for n in range(4)]}
    assert list(drawn.values()) == ["a red round thing", "one original", "two originals", "the circle is red"]
    assert captions.pick(0, 0) == "one original"
    alone = reader({}, {"rewrites": ["red"]})
    assert alone.pick(0.5, 0.5) == "red", "there is no original"


def test_the_smallest_and_largest_draws_give_the_first_and_last_caption() -> None:
    captions = read({"txt": 1, "json.b": 2}, b"1\n2\n3", b=["4", "5"])
    below_one = math.nextafter(1, 0)
    assert [captions.pick(u, v) for u in (0, below_one) for v in (0, below_one)] == ["1", "3", "4", "5"]


@pytest.mark.parametrize(
    ("txt", "meta", "reason"),
    [
        (b"", {}, "text: empty"),
        (b" \n\t", {}, "text: empty"),
        (None, {"text": []}, "text: empty"),
        (None, {"text": "  "}, "text: empty"),
        (b"caf\xe9", {}, "text: not UTF-8"),
        (None, {"text": 7}, "json: a caption is not a string"),
        (None, {"text": ["a", None]}, "json: a caption is not a string"),
        (None, {"text": [{"title": "a"}]}, "json: a caption is not a string"),
        (None, {"text": [["a"]]}, "json: a caption is not a string"),
        (None, {"text": {"en": "a", "width": "b"}}, "json: a caption is not a string"),
    ],
)
def test_unusable_captions_are_bad(txt: bytes | None, meta: dict[str, object], reason: str) -> None:
    with pytest.raises(BadSample) as bad:
        read({}, txt, **meta)
    assert bad.value.reason == reason


def test_an_empty_caption_is_bad_only_if_it_is_the_only_one() -> None:
    nothing = read({}, b"&nbsp;\n")
    for use in (lambda: nothing.all, lambda: nothing.pick(0, 0)):
        with pytest.raises(BadSample, match="text: empty"):
            use()
    assert read({}, b"&nbsp;\na word").all == ("a word",)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"caption": 1.0}, "unknown place `caption`; write `txt`, json.KEY"),
        ({"json": 1.0}, "unknown place `json`"),
        ({"json.": 1.0}, "unknown place `json.`"),
        ({"json.a..b": 1.0}, "unknown place"),
        ({"jpg.a": 1.0}, "unknown place"),
        ({"txt": -1.0}, "the share of `txt` is -1"),
        ({"txt": math.nan}, "is nan"),
        ({"txt": 0.0, "json.a": 0.0}, "every share is 0"),
    ],
)
def test_impossible_places_are_refused(places: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        CaptionReader(places)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_only_files_with_captions_are_read() -> None:
    wanted = [CaptionReader(places).wanted for places in ({}, {"txt": 1}, {"json.a": 1}, {"txt": 1, "json.a": 1})]
    assert wanted == [{"txt", "json"}, {"txt"}, {"json"}, {"txt", "json"}]
