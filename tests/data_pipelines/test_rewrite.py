"""Captions from a language model: what a bad server does to them, and that no answer is paid for twice."""

import json
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

import pytest

from tercet.data_pipelines.captions.rules.wrong import WrongCaption
from tercet.data_pipelines.rewrite.cache import AnswerCache
from tercet.data_pipelines.rewrite.captioned import Captioned
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.data_pipelines.rewrite.endpoint import Endpoint, retry_after
from tercet.data_pipelines.rewrite.rewrite import HOPELESS, Counts, Rewriting
from tercet.data_pipelines.rewrite.tasks import TASKS, task_of
from tercet.data_pipelines.shards.patience import Patience
from tercet.errors import UserError
from tests.data_pipelines.chat import chatting

OPTIONS: dict[str, object] = {"model": "m", "temperature": 0.9, "max_tokens": 512}
REWRITES = TASKS["rewrites"]


def caption_of(prompt: str) -> str:
    return prompt.split("\n\n")[1]


def good(number: int, prompt: str) -> str:
    return json.dumps([f"now {caption_of(prompt)}"])


def samples(count: int) -> list[Captioned]:
    return [Captioned(f"k{i}", (f"dog {i}", f"other {i}")) for i in range(count)]


class Case:
    """Runs the task on samples against a server, with the pauses recorded instead of waited."""

    def __init__(self, url: str, folder: Path, **options: object) -> None:
        self.config = RewriteConfig.model_validate({"task": "rewrites", "concurrency": 1, "tries": 3, **options})
        self.pauses: list[float] = []
        patience = Patience(self.config.tries, self.config.timeout)
        self.model = Endpoint(url, OPTIONS, "secret", "KEY", patience, self.pauses.append)
        self.cache = AnswerCache(folder / "cache")

    def run(self, asked: Sequence[Captioned]) -> tuple[list[dict[str, object]], Counts]:
        rewriting = Rewriting(task_of(self.config), self.model, self.cache, self.config)
        try:
            return list(rewriting.run(asked)), rewriting.counts
        finally:
            self.cache.close()


def test_every_caption_is_asked_about_once_with_the_key_and_the_parameters(tmp_path: Path) -> None:
    with chatting(good) as chat:
        rows, counts = Case(chat.url, tmp_path, concurrency=4).run(
            [*samples(30), Captioned("again", samples(1)[0].right)]
        )
    assert rows == [{"key": one.key, "rewrites": [f"now {one.right[0]}"]} for one in samples(30)] + [
        {"key": "again", "rewrites": ["now dog 0"]}
    ]
    assert (counts.answered, counts.rows, counts.bad, counts.failed) == (30, 31, 0, 0)
    assert sorted(map(caption_of, chat.prompts)) == sorted(one.right[0] for one in samples(30))
    assert set(chat.keys) == {"Bearer secret"}
    assert all(request | OPTIONS == request for request in chat.asked)


@pytest.mark.parametrize(
    ("fault", "pauses"),
    [
        ("429 7", [7.0]),
        ("429", [1.0]),
        ("503 0", [0.0]),
        ("500", [1.0]),
        ("429 9999", [600.0]),
        ("stalls", [1.0]),
        ("cut short", [1.0]),
        ("hangs up", [1.0]),
    ],
)
def test_a_failure_that_may_pass_is_tried_again_after_a_pause(tmp_path: Path, fault: str, pauses: list[float]) -> None:
    with chatting(lambda number, prompt: fault if number == 1 else good(number, prompt)) as chat:
        case = Case(chat.url, tmp_path, timeout=0.5)
        rows, counts = case.run(samples(2))
        chat.over.set()
    assert [row["rewrites"] for row in rows] == [["now dog 0"], ["now dog 1"]]
    assert (case.pauses, counts.failed, len(chat.asked)) == (pauses, 0, 3)


def test_pauses_double_and_what_still_fails_is_left_out_and_asked_again_by_the_next_call(tmp_path: Path) -> None:
    broken = [True]

    def answer(number: int, prompt: str) -> str:
        return "500" if broken[0] and caption_of(prompt) == "dog 1" else good(number, prompt)

    with chatting(answer) as chat:
        case = Case(chat.url, tmp_path)
        rows, counts = case.run(samples(3))
        assert [row["key"] for row in rows] == ["k0", "k2"]
        assert (case.pauses, counts.failed, counts.missing) == ([1.0, 2.0], 1, 1 / 3)
        assert counts.reasons == {"the server answers with status 500: not now": 1}
        broken[0] = False
        before = len(chat.asked)
        rows, counts = Case(chat.url, tmp_path).run(samples(3))
        assert [row["key"] for row in rows] == ["k0", "k1", "k2"]
        assert [caption_of(prompt) for prompt in chat.prompts[before:]] == ["dog 1"]
        assert (counts.cached, counts.answered) == (2, 1)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('Sure! ["a cat", "a cow"] Anything else?', ["a cat", "a cow"]),
        ('```json\n[{"text": "a cat"}, {"caption": "a cow"}]\n```', ["a cat", "a cow"]),
        ('<think>["no"] or [1]?</think>["a cat"]', ["a cat"]),
        ('See [this]: ["a cat"]', ["a cat"]),
        (
            '["A Cat.", "a cat", "  ", "DOG 0", "other 0!", "a cow", "c", "a d", "a e", "a f"]',
            ["A Cat.", "a cow", "a d", "a e"],
        ),
        ('["un caf\\u00c3\\u00a9"]', ["un café"]),
        ('["Dog 0."]', None),
        ("[]", None),
        ("[1]", None),
        ('{"text": "a cat"}', None),
        ('["a cat"', None),
        ("no", None),
        ("", None),
    ],
)
def test_the_captions_of_an_answer(said: str, kept: list[str] | None) -> None:
    """New ones only, without duplicates and without those that are right; as many as were asked for."""
    found = REWRITES.read(said, samples(1)[0].right)
    assert (None if found is None else [caption.text for caption in found]) == kept


def test_negatives_keep_their_kinds_and_an_order_may_be_absent() -> None:
    said = '[{"kind": "swap", "text": "a"}, "b", {"kind": 3, "text": "c"}]'
    found = TASKS["negatives"].read(said, ["x"])
    assert found == [WrongCaption("swap", "a"), WrongCaption("negatives", "b"), WrongCaption("3", "c")]
    assert TASKS["negatives"].row(found) == {
        "negatives": [{"kind": "swap", "text": "a"}, {"kind": "negatives", "text": "b"}, {"kind": "3", "text": "c"}]
    }
    assert (TASKS["temporal"].read("[]", ["x"]), TASKS["temporal"].read('["X"]', ["x"])) == ([], [])


def test_malformed_answers_are_asked_again_then_counted_as_bad_and_not_paid_for_again(tmp_path: Path) -> None:
    def answer(number: int, prompt: str) -> str:
        if caption_of(prompt) == "dog 1":
            return "I would rather not."
        return "not yet" if number == 1 else good(number, prompt)

    with chatting(answer) as chat:
        rows, counts = Case(chat.url, tmp_path).run(samples(3))
        assert [row["key"] for row in rows] == ["k0", "k2"]
        assert (counts.answered, counts.bad, counts.failed) == (2, 1, 0)
        assert counts.reasons == {"not a list of new captions": 1}
        assert [caption_of(prompt) for prompt in chat.prompts] == ["dog 0"] * 2 + ["dog 1"] * 3 + ["dog 2"]
        assert [prompt.endswith("nothing else.") for prompt in chat.prompts[:2]] == [False, True]
        again, counts = Case(chat.url, tmp_path).run(samples(3))
        assert (again, len(chat.asked), counts.bad, counts.cached) == (rows, 6, 1, 2)
        Case(chat.url, tmp_path, retry_bad=True).run(samples(3))
        assert [caption_of(prompt) for prompt in chat.prompts[6:]] == ["dog 1"] * 3


def test_the_cache_knows_the_prompt_the_model_the_parameters_and_the_right_captions(tmp_path: Path) -> None:
    with chatting(good) as chat:
        Case(chat.url, tmp_path).run(samples(1))
        Case(chat.url, tmp_path).run(samples(1))
        assert len(chat.asked) == 1
        Case(chat.url, tmp_path, count=2).run(samples(1))
        Case(chat.url, tmp_path).run([Captioned("k0", ("dog 0", "now dog 0"))])
        assert len(chat.asked) == 2 + 3, "the only answer is right, so it is asked for three times"
        moved = Case(chat.url, tmp_path)
        moved.model = Endpoint(chat.url, {**OPTIONS, "temperature": 0.1}, None, "KEY", Patience())
        moved.run(samples(1))
        assert len(chat.asked) == 6


def test_a_server_that_dies_stops_the_command_in_one_line_and_keeps_the_answers(tmp_path: Path) -> None:
    with chatting(good) as chat:
        Case(chat.url, tmp_path).run(samples(5))
    with pytest.raises(UserError) as caught:
        Case(chat.url, tmp_path).run(samples(60))
    assert f"{HOPELESS} requests in a row got no answer, the last because: " in str(caught.value)
    assert "5 answers are kept in" in str(caught.value)
    assert "\n" not in str(caught.value)
    with chatting(good) as chat:
        rows, counts = Case(chat.url, tmp_path).run(samples(60))
    assert (len(rows), counts.cached, len(chat.asked)) == (60, 5, 55)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401", "answers with status 401: the key in KEY is refused: not now"),
        ("302 /v1/elsewhere", "answers with status 302: not now; give the base URL"),
        ("404", "answers with status 404: not now; give the base URL, such as http://localhost:8000/v1"),
        ("503", "3 requests in a row got no answer, the last because: the server answers with status 503: not now"),
    ],
)
def test_total_failure_is_one_line(tmp_path: Path, status: str, message: str) -> None:
    with chatting(lambda number, prompt: status) as chat, pytest.raises(UserError) as caught:
        Case(chat.url, tmp_path).run(samples(3))
    assert set(chat.paths) == {"/v1/chat/completions"}, "no redirect is followed with the key"
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_prompt_that_is_refused_does_not_stop_the_others(tmp_path: Path) -> None:
    refuse = "400"
    with chatting(lambda number, prompt: refuse if "dog 1" in prompt else good(number, prompt)) as chat:
        rows, counts = Case(chat.url, tmp_path).run(samples(3))
    assert ([row["key"] for row in rows], counts.failed, len(chat.asked)) == (["k0", "k2"], 1, 3)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert [retry_after(text) for text in (None, "3", "-1", "soon")] == [None, 3.0, 0.0, None]
    assert retry_after(formatdate(1_000_060), lambda: 1_000_000.0) == 60
    assert retry_after(formatdate(999_000), lambda: 1_000_000.0) == 0


def test_a_half_line_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache")
    cache.add("a", [WrongCaption("k", "é\ud800")])
    cache.add("b", None)
    with pytest.raises(UserError, match="in use by another process"):
        AnswerCache(tmp_path / "cache")
    cache.close()
    with (tmp_path / "cache").open("ab") as file:
        file.write(b'{"hash": "c", "capt')
    cache = AnswerCache(tmp_path / "cache")
    assert (len(cache), cache.get("a"), cache.get("b"), "c" in cache) == (
        2, [WrongCaption("k", "é\ud800")], None, False,
    )  # fmt: skip
    cache.add("c", [])
    assert (cache.get("c"), cache.get("a")) == ([], [WrongCaption("k", "é\ud800")])
    cache.close()
