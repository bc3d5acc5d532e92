"""The command line: it answers without torch, and a mistake is one line and exit code 2."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from safetensors import SafetensorError

from tercet.benchmarks.table import BenchRow
from tercet.command import main, verbs
from tercet.command.arguments import parse
from tercet.configs.catalogue import recipe_names
from tercet.version import __version__

VERBS = ("demo", "train", "recipes", "tasks", "eval", "bench", "doctor", "data")
ANSWERED_WITHOUT_TORCH = [
    "", "--help", "--version",
    "recipes ls", "recipes ls --json", "recipes show demo", "recipes check",
    "tasks ls", "tasks ls --json", "tasks --help",
    "recipes from-open-clip '--train-data a.tar --train-num-samples 999'",
    *(f"{verb} --help" for verb in VERBS),
    *(f"recipes {verb} --help" for verb in ("ls", "show", "check", "new", "from-open-clip")),
    *(f"data {verb} --help" for verb in ("generate", "pack", "mine", "rewrite")),
]  # fmt: skip
MISTAKES = {
    "trian demo": "unknown command `trian`; did you mean `train`?",
    "recipes shwo": "unknown command `shwo`; did you mean `show`?",
    "eval": "the following arguments are required: MODEL; see `tercet eval --help`",
    "bench": "the following arguments are required: NAME; see `tercet bench --help`",
    "compare a b --format jsn": "unknown --format `jsn`; did you mean `json`?",
    "train": "the following arguments are required: RECIPE; see `tercet train --help`",
    "train dmeo": "unknown recipe `dmeo`; did you mean `demo`?",
    "train demo --dry-rum": "`tercet train` does not take `--dry-rum`; did you mean `--dry-run`?",
    "train demo --steps 3": "`tercet train` does not take `--steps`; write a key of the recipe without dashes: steps=…",
    "data leaks shards others --text title": "`tercet data leaks` does not take `--text`",
    "eval demo --data d retrieval --taks knn": "`tercet eval` does not take `--taks`",
    "train demo batchsize=3": "command line: unknown key `batchsize`; did you mean `batch_size`?",
    "train demo fast": "command line: `fast` is not an override; write key=value, such as optimizer.lr=1e-3",
    "recipes from-open-clip train.sh": "the command has no `open_clip_train.main`; give all of it, or its flags",
    "train nowhere.yaml": "nowhere.yaml is neither a recipe file nor the folder of a run; `tercet recipes ls`",
    "bench lss": "unknown benchmark `lss`",
    "data generate": "the following arguments are required: --out; see `tercet data generate --help`",
    "data pack nowhere --out x": "nowhere does not exist; name a folder",
    "data check shards --workers 0": "--workers 0 is not a number of processes; give a whole number of 1 or more",
    "data check shards --max-bad 7": "--max-bad 7 is not a share; give a number from 0 to 1",
    "data leaks shards others --out .": "--out . is a folder; name a file in it",
    "data stats shards --out /dev/null/page.html": "--out /dev/null/page.html cannot be written: ",
    "data mine runs/demo": "the following arguments are required: --out; see `tercet data mine --help`",
    "data mine m --out x --sampling-strategy tpo": "unknown --sampling-strategy `tpo`; did you mean `top`?",
    "data rewrite nowhere --data shards --out x": "nowhere is not `rules`, a URL or a folder; give one of these",
    "data generate --out x trian=3": "command line: unknown key `trian`; did you mean `train`?",
}


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tercet", *words]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "", **environment}, check=False)


def test_help_lists_and_errors_do_not_import_torch() -> None:
    """All of them in one process that cannot import it."""
    program = (
        "import sys, shlex; sys.modules['torch'] = None\n"
        "from tercet.command import main\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    try: main(shlex.split(line))\n"
        "    except SystemExit as end: assert end.code == 0, line\n"
    )
    lines = "\n".join([*ANSWERED_WITHOUT_TORCH, *MISTAKES])
    answer = subprocess.run([sys.executable, "-c", program], input=lines, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line_and_exit_code_2(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(mistake.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tercet: {MISTAKES[mistake]}")
    assert err.count("\n") == 1


def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ("--help", "embed --help", "bench --help", "train --help"):
        with pytest.raises(SystemExit):
            main(words.split())
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "\n  torchrun --nproc-per-node 8 -m tercet train RECIPE\n" in shown  # commands keep their lines


def test_the_process_exits_with_the_code_of_main() -> None:
    wrong = run("trian")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "tercet: unknown command `trian`; did you mean `train`?\n"
    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"tercet {__version__}\n")


def test_only_rank_0_prints_errors() -> None:
    speaking, silent = run("trian", RANK="0"), run("trian", RANK="3")
    assert (speaking.returncode, silent.returncode) == (2, 2)
    assert speaking.stderr.startswith("tercet: unknown command")
    assert silent.stderr == ""


def test_a_closed_pipe_ends_the_command_without_a_word() -> None:
    command = [sys.executable, "-m", "tercet", "recipes", "ls", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_broken_pipe_elsewhere_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.command.verbs.print_json", Mock(side_effect=BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        main(["recipes", "ls", "--json"])


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.command.verbs.print_json", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["recipes", "ls", "--json"])


def test_a_bench_takes_its_own_options_and_checks_its_targets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[tuple[str, list[str]]] = []

    def load(name: str) -> Callable[[list[str]], list[BenchRow]]:
        return lambda rest: taken.append((name, rest)) or []  # type: ignore[func-returns-value]

    monkeypatch.setattr("tercet.benchmarks.table.load_bench", load)
    assert main(["bench", "loss", "--json", "--small"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is False  # a required row that is missing is a miss
    assert main(["bench", "loss", "--check", "--sizes", "8"]) == 1
    assert taken == [("loss", ["--small"]), ("loss", ["--sizes", "8"])]


def test_options_and_overrides_may_be_mixed() -> None:
    arguments = parse(["train", "demo", "steps=3", "--dry-run", "optimizer.lr=0.1"])
    assert (arguments.dry_run, arguments.overrides) == (True, ["steps=3", "optimizer.lr=0.1"])


def test_tasks_and_models_may_follow_options() -> None:
    assert parse(["eval", "run", "knn", "--data", "d", "geometry", "--self-test", "order"]).tasks == [
        "knn", "geometry", "order",
    ]  # fmt: skip
    assert parse(["compare", "--task", "knn", "a", "--data", "d", "b"]).models == ["a", "b"]


def test_recipes_are_listed_shown_and_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["recipes", "ls", "--json"]) == 0
    assert [recipe["name"] for recipe in json.loads(capsys.readouterr().out)] == recipe_names()
    assert main(["recipes", "show", "demo", "seed=7"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    (tmp_path / "bad.yaml").write_text("extends: demo\nbatchsize: 3\n")
    (tmp_path / "nine.yaml").write_text("extends: demo\nsteps: 9\n")
    assert main(["recipes", "check", str(tmp_path / "again.yaml"), "demo"]) == 0
    capsys.readouterr()
    assert main(["recipes", "check", "demo", "image_text", "steps=3"]) == 0
    assert capsys.readouterr().out.splitlines() == ["ok    demo: 3 steps of 256", "ok    image_text: 3 steps of 8192"]
    assert main(["recipes", "check", "demo", "stpes=3"]) == 2
    assert "unknown key `stpes`; did you mean `steps`?" in capsys.readouterr().out
    assert main(["recipes", "check", str(tmp_path / "bad.yaml"), str(tmp_path / "nine.yaml")]) == 2
    wrong, right = capsys.readouterr().out.splitlines()
    assert wrong.endswith("bad.yaml: unknown key `batchsize`; did you mean `batch_size`?")
    assert right == f"ok    {tmp_path / 'nine.yaml'}: 9 steps of 256"


def test_data_generate_takes_the_options_of_the_generated_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = ["train=4", "val=2", "combinations=2", "workers=1"]
    assert main(["data", "generate", "--out", str(tmp_path / "world"), *knobs]) == 0
    assert json.loads((tmp_path / "world" / "world.json").read_text())
    assert str(tmp_path / "world") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.encoder=small:imag", "write `small:image`"),
        ("model.image.encoder=open_clip:ViT-B-33", "did you mean `ViT-B-32`"),
        ("steps=0", "give `init`"),
        ("micro_batch=512", "more than batch_size 256"),
    ],
)
def test_recipes_check_finds_values_that_no_run_can_use(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "check", "demo", override]) == 2
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "run/metrics.jsonl"),
        OSError(122, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_an_error_of_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verbs, "recipes_ls", Mock(side_effect=error))
    assert main(["recipes", "ls"]) == 2
    assert capsys.readouterr().err == f"tercet: cannot write: {error}. Free space, and run the same command again\n"


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("28"), SafetensorError("header")])
def test_other_failures_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "recipes_ls", Mock(side_effect=error))
    with pytest.raises(type(error)):
        main(["recipes", "ls"])
