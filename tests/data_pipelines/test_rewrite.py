"""Captions from a language model: what a bad server does to them, and that no answer is paid for twice."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from email.utils import formatdate
from pathlib import Path

import pytest

from tercet.command import main
from tercet.data_pipelines.captions.rules.wrong import WrongCaption, WrongCaptions
from tercet.data_pipelines.captions.sidecar import open_sidecar
from tercet.data_pipelines.rewrite.cache import AnswerCache
from tercet.data_pipelines.rewrite.captioned import Captioned
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.data_pipelines.rewrite.endpoint import Endpoint, retry_after
from tercet.data_pipelines.rewrite.open_model import check_writer, open_model
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


@pytest.fixture
def data(pack: Callable[..., Path]) -> str:
    items = [{"__key__": f"{i:03d}", "txt": f"a red dog {i} above a blue cat"} for i in range(12)]
    return str(pack("0.tar", [*items, {"__key__": "999", "json": b"{}"}]))


def test_a_killed_command_goes_on_where_it_stopped(data: str, tmp_path: Path) -> None:
    """One request at a time: when the sixth arrives, five answers are in the cache."""
    sixth, release = threading.Event(), threading.Event()

    def answer(number: int, prompt: str) -> str:
        if number == 6:
            sixth.set()
            release.wait(60)
            return "stalls"
        return good(number, prompt)

    out = tmp_path / "out.jsonl"
    with chatting(answer) as chat:
        words = [
            chat.url,
            "--data",
            data,
            "--out",
            str(out),
            "--task",
            "rewrites",
            "--model",
            "m",
            "--concurrency",
            "1",
        ]
        command = [sys.executable, "-m", "tercet", "data", "rewrite", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert sixth.wait(60)
            process.send_signal(signal.SIGKILL)
        release.set()
        chat.over.set()
        assert not out.exists()
        paid = list(map(caption_of, chat.prompts[:5]))
        assert main(["data", "rewrite", *words]) == 0
        asked = list(map(caption_of, chat.prompts[6:]))
        assert sorted(paid + asked) == sorted(f"a red dog {i} above a blue cat" for i in range(12))
        assert main(["data", "rewrite", *words]) == 0
        assert len(chat.asked) == 13
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"key": f"{i:03d}", "rewrites": [f"now a red dog {i} above a blue cat"]} for i in range(12)]
    assert open_sidecar(str(out))("011") == {"rewrites": ["now a red dog 11 above a blue cat"]}


def test_the_command_writes_what_rules_make(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    words = ["data", "rewrite", "rules", "--data", data, "--out", str(out), "--rules", "swap_adjectives,attribute"]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["rows"], printed["without"]) == (12, 1)
    first = out.read_bytes()
    assert main(words) == 0
    assert out.read_bytes() == first, "the same keys and seed draw the same mistakes"
    assert main([*words, "--seed", "1"]) == 0
    assert out.read_bytes() != first
    sidecar = open_sidecar(str(out))
    for i in range(12):
        (swapped, replaced) = sorted(sidecar(f"{i:03d}")["negatives"], key=lambda one: -len(one["kind"]))[::-1]  # type: ignore[call-overload]
        assert {swapped["kind"], replaced["kind"]} == {"swap_adjectives", "replace_attribute"}


def test_a_share_of_bad_answers_above_the_limit_exits_with_1(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chatting(lambda number, prompt: "no" if "dog 3" in prompt else good(number, prompt)) as chat:
        words = ["data", "rewrite", chat.url, "--data", data, "--out", str(tmp_path / "o.jsonl"), "--model", "m"]
        words += ["--task", "rewrites"]
        assert main(words) == 1
        assert "1 of 12 captions have no usable answer, more than --max-bad 0.05 allows" in capsys.readouterr().err
        assert main([*words, "--max-bad", "0.1"]) == 0
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 11


def test_a_prompt_is_tried_on_a_few_samples_with_more_options(data: str, tmp_path: Path) -> None:
    with chatting(good) as chat:
        words = ["data", "rewrite", chat.url, "--data", data, "--out", str(tmp_path / "o.jsonl"), "--model", "m"]
        words += ["--task", "rewrites", "--limit", "3", "--extra", '{"max_tokens": null, "top_p": 0.5}']
        assert main(words) == 0
        assert main([*words[:-1], "{"]) == 2
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == len(chat.asked) == 3
    for request in chat.asked:
        del request["messages"]
        assert request == {"model": "m", "temperature": 0.9, "top_p": 0.5}


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Say {count} times {caption}: {'{count}'}", encoding="utf-8")
    task = task_of(RewriteConfig(prompt=str(tmp_path / "own.txt"), count=2))
    assert task.ask("a {count} b") == "Say 2 times a {count} b: {'2'}"
    (tmp_path / "own.txt").write_text("Say it", encoding="utf-8")
    with pytest.raises(UserError, match=r"does not contain \{caption\}"):
        task_of(RewriteConfig(prompt=str(tmp_path / "own.txt")))
    with pytest.raises(UserError, match="cannot be read"):
        task_of(RewriteConfig(prompt=str(tmp_path / "none.txt")))


def test_two_samples_of_one_key_are_refused(pack: Callable[..., Path], tmp_path: Path) -> None:
    items = [{"__key__": "000", "txt": "a dog"}]
    folder = pack("0.tar", items).parent
    pack("1.tar", items)
    assert main(["data", "rewrite", "rules", "--data", str(folder / "{0..1}.tar"), "--out", str(tmp_path / "o")]) == 2


def test_a_model_in_a_folder_answers_in_batches(tmp_path: Path) -> None:
    """A random model writes no lists. Its draws depend on the prompts and the seed alone."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", "</s>", *(chr(code) for code in range(32, 127))]
    level = tokenizers.models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]")
    letters = tokenizers.Tokenizer(level)
    letters.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    folder = tmp_path / "model"
    transformers.PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="</s>").save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(words), max_position_embeddings=4096, eos_token_id=1, **shape)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)

    options = RewriteConfig(task="rewrites", max_tokens=6, concurrency=3)
    model = open_model(str(folder), options)
    prompts = ["one", "a longer one", "three"]
    answers = model.complete(prompts)
    assert [len(answer) > 0 for answer in answers] == [True] * 3
    assert model.complete(prompts) == answers
    assert open_model(str(folder), options.model_copy(update={"seed": 1})).complete(prompts) != answers
    exact = open_model(str(folder), options.model_copy(update={"temperature": 0.0}))
    alone = [exact.complete([prompt])[0] for prompt in prompts]
    assert exact.complete(prompts) == alone, "padding changes nothing"

    cache = AnswerCache(tmp_path / "cache")
    rewriting = Rewriting(REWRITES, model, cache, options)
    assert list(rewriting.run(samples(5))) == []
    assert (rewriting.counts.bad, len(cache)) == (5, 5)
    cache.close()


def test_a_folder_without_a_model_is_an_error_of_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="has no causal language model") as caught:
        open_model(str(tmp_path), RewriteConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rules", {"rules": ["swop"]}, "--rules has no rule `swop`; did you mean `swap`?"),
        ("rules", {"task": "rewrites"}, "--task rewrites needs a language model; rules write negatives only"),
        ("http://localhost:8000/v1", {}, "--model is missing: name the model that http://localhost:8000/v1 should use"),
        ("nowhere", {}, "nowhere is not `rules`, a URL or a folder; give one of these, such as http://"),
    ],
)
def test_a_mistake_is_found_before_data_are_read(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_writer(name, RewriteConfig.model_validate(options))
    assert str(caught.value).startswith(message)


def test_rules_are_those_of_the_field() -> None:
    assert RewriteConfig().rules == WrongCaptions().rules
