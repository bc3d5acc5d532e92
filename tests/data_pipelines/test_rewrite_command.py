"""`tercet data rewrite`: killed and called again, by rules, by a prompt of one's own, and by a model in a folder."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tercet.command import main
from tercet.data_pipelines.captions.rules.wrong import WrongCaptions
from tercet.data_pipelines.captions.sidecar import open_sidecar
from tercet.data_pipelines.rewrite.cache import AnswerCache
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.data_pipelines.rewrite.open_model import check_writer, open_model
from tercet.data_pipelines.rewrite.rewrite import Rewriting
from tercet.data_pipelines.rewrite.tasks import task_of
from tercet.errors import UserError
from tests.data_pipelines.chat import chatting
from tests.data_pipelines.test_rewrite import REWRITES, caption_of, good, samples


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


def test_captions_are_written_of_keywords(pack: Callable[..., Path], tmp_path: Path) -> None:
    """The prompt has all keywords, and no other caption of the sample."""
    items = [
        {"__key__": "000", "txt": "other", "json": json.dumps({"tags": ["rain", "a_dog"]}).encode()},
        {"__key__": "001", "txt": "other", "json": b"{}"},
    ]
    data, out = pack("0.tar", items), tmp_path / "o.jsonl"
    with chatting(lambda number, prompt: '["A dog barks in the rain."]') as chat:
        words = ["data", "rewrite", chat.url, "--data", str(data), "--out", str(out), "--model", "m"]
        assert main([*words, "--task", "keywords"]) == 0
    assert ["\n\nrain and a dog\n\n" in prompt for prompt in chat.prompts] == [True]
    assert "other" not in chat.prompts[0].split("Write")[0]
    assert json.loads(out.read_text()) == {"key": "000", "keyword_captions": ["A dog barks in the rain."]}


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
    torch.manual_seed(0)  # some models end their answer at once
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
