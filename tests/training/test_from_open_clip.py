"""Command lines of open_clip_train become recipes: its own parser, schedulers and locks say what is right."""

import argparse
import math
import re
from pathlib import Path

import open_clip_train.params as theirs
import open_clip_train.scheduler as their_schedules
import pytest
import torch
from open_clip.transformer import VisionTransformer

from tercet.command import main
from tercet.errors import UserError
from tercet.models.losses import build_objective
from tercet.models.term_config import ObjectiveConfig
from tercet.training.config import RunConfig
from tercet.training.engines.config import ScheduleConfig
from tercet.training.engines.schedule import learning_rate
from tercet.training.from_open_clip import translate
from tercet.training.from_open_clip.flag import Flag
from tercet.training.from_open_clip.recipe import FLAGS, flag_table
from tercet.training.recipe import load_recipe

DATA = "--train-data shards/{00000..00009}.tar --train-num-samples 100000"
DOCS = Path(__file__).resolve().parents[2] / "docs/from_open_clip.md"


def their_actions(monkeypatch: pytest.MonkeyPatch) -> dict[str, argparse.Action]:
    """The options of their parser, which makes and uses it within one function."""
    parsers: list[argparse.ArgumentParser] = []

    def parse(parser: argparse.ArgumentParser, args: object) -> argparse.Namespace:
        parsers.append(parser)
        raise StopIteration

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(StopIteration):
        theirs.parse_args([])
    return {action.option_strings[0]: action for action in parsers[0]._actions if action.dest != "help"}


def recipe(flags: str, folder: Path, processes: int | None = None) -> RunConfig:
    """The recipe as it is read back from its file."""
    file = folder / "translated.yaml"
    file.write_text(translate(flags, processes).recipe(), encoding="utf-8")
    return load_recipe(str(file))


def notes(flags: str) -> str:
    return "\n".join(translate(flags).note_lines())


def test_the_table_declares_every_flag_like_the_parser_of_open_clip_train(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    ours = {flag.name: parser.add_argument(flag.name, **flag.option) for flag in FLAGS}
    expected = their_actions(monkeypatch)
    assert sorted(ours) == sorted(expected)
    for name, action in expected.items():
        for attribute in ("dest", "default", "nargs", "const", "choices", "option_strings"):
            assert getattr(ours[name], attribute) == getattr(action, attribute), (name, attribute)
        assert (ours[name].type or str) == (action.type or str), name  # argparse takes words where it is told nothing


@pytest.mark.parametrize("model", ["RN50", "ViT-B-32", "convnext_base"])
def test_the_recipe_holds_the_defaults_of_open_clip_train(model: str, tmp_path: Path) -> None:
    args, config = theirs.parse_args(["--model", model]), recipe(f"{DATA} --model {model}", tmp_path)
    optimizer = config.optimizer
    assert (optimizer.lr, *optimizer.betas, optimizer.eps) == (args.lr, args.beta1, args.beta2, args.eps)
    assert (optimizer.weight_decay, optimizer.scale_lr) == (args.wd, 1.0)
    assert (config.schedule.name, config.schedule.warmup) == ("cosine", args.warmup)
    assert (config.seed, config.data.workers, config.log.every) == (args.seed, args.workers, args.log_every_n_steps)
    assert (config.clip, config.precision, config.batch_size) == (0.0, "bf16", args.batch_size)
    assert config.checkpoint.keep == args.epochs


@pytest.mark.parametrize(
    ("flags", "start", "bias"), [("", 1 / 0.07, None), ("--siglip", 10.0, -10.0)], ids=["clip", "siglip"]
)
def test_temperatures_have_the_start_and_bounds_of_open_clip(flags: str, start: float, bias: float | None) -> None:
    objective = build_objective(ObjectiveConfig.model_validate(translate(f"{DATA} {flags}").values["objective"]))
    assert (objective.scale, objective.bias) == (pytest.approx(start), bias)
    assert objective.bounds == (pytest.approx(math.exp(0)), pytest.approx(math.exp(math.log(100))))


@pytest.mark.parametrize(
    "flags",
    [
        "--warmup 7",
        "--warmup 5 --lr-scheduler const",
        "--warmup 3 --lr-scheduler const-cooldown --epochs-cooldown 2",
        "--warmup 3 --lr-scheduler const-cooldown --epochs-cooldown 1 --lr-cooldown-end 1e-5 --lr 1e-3",
    ],
)
def test_every_step_has_the_learning_rate_of_open_clip_train(flags: str, tmp_path: Path) -> None:
    flags += " --epochs 4 --train-data x.tar --train-num-samples 640 --workers 1"
    args, config = theirs.parse_args(flags.split()), recipe(flags, tmp_path)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = {
        "cosine": lambda: their_schedules.cosine_lr(optimizer, args.lr, args.warmup, 40),
        "const": lambda: their_schedules.const_lr(optimizer, args.lr, args.warmup, 40),
        "const-cooldown": lambda: their_schedules.const_lr_cooldown(
            optimizer, args.lr, args.warmup, 40, 10 * (args.epochs_cooldown or 0), 1.0, args.lr_cooldown_end
        ),
    }[args.lr_scheduler]()
    assert config.steps == 40
    ours = [learning_rate(config.schedule, config.optimizer.lr, step, 40) for step in range(40)]
    assert ours == pytest.approx([schedule(step) for step in range(40)], rel=1e-12)


def test_skip_scheduler_gives_a_constant_learning_rate(tmp_path: Path) -> None:
    assert recipe(f"{DATA} --skip-scheduler", tmp_path).schedule == ScheduleConfig(name="constant")


@pytest.mark.parametrize(
    ("launcher", "processes"),
    [
        ("", 1),
        ("python -m open_clip_train.main", 1),
        ("CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node 2 -m open_clip_train.main", 2),
        ("torchrun --nproc-per-node=8 --nnodes=4 --rdzv_backend c10d -m open_clip_train.main", 32),
        ("cd open_clip && torchrun --nproc_per_node 4 src/training/main.py", 4),
        ("horovodrun -np 3 python -m training.main", 3),
        ("srun -N 2 --ntasks-per-node=4 python -u src/open_clip_train/main.py", 8),
    ],
)
def test_the_number_of_processes_is_read_from_the_launcher(launcher: str, processes: int, tmp_path: Path) -> None:
    config = recipe(f"{launcher} {DATA} --batch-size 16 --accum-freq 2 \\\n --epochs 2", tmp_path)
    assert (config.batch_size, config.micro_batch) == (32 * processes, 16)
    worker_batches = math.ceil(math.ceil(100_000 / (16 * processes)) / 4)
    assert config.steps == 2 * (4 * worker_batches // 2)


@pytest.mark.parametrize(("rows", "processes", "expected"), [(1000, 1, 31), (1000, 3, 10), (97, 3, 1)])
def test_a_table_has_as_many_steps_as_with_the_sampler_of_open_clip_train(
    rows: int, processes: int, expected: int, tmp_path: Path
) -> None:
    """Their loader itself counts: a sampler that pads to equal shares, and no batch that is not full."""
    table = tmp_path / "photos.csv"
    table.write_text("filepath\ttitle\n" + "".join(f"{i}.jpg\ta b\n" for i in range(rows)), encoding="utf-8")
    sampler = torch.utils.data.DistributedSampler(range(rows), processes, 0)  # type: ignore[arg-type]
    assert len(torch.utils.data.DataLoader(range(rows), 32, sampler=sampler, drop_last=True)) == expected  # type: ignore[arg-type]
    values = translate(f"--train-data {table} --batch-size 32 --epochs 1", processes).values
    assert values["steps"] == expected


def test_upsampling_factors_are_multiplied_by_the_number_of_shards(tmp_path: Path) -> None:
    flags = "--train-data 'a/{0..9}.tar::pipe:aws s3 cp s3://b/{0..3}.tar -' --train-num-samples 1000"
    config = recipe(f"{flags} --train-data-upsampling-factors 1::2.5 --dataset-resampled", tmp_path)
    assert [(one.source, one.weight) for one in config.data.train.values()] == [
        ("a/{0..9}.tar", 10.0),
        ("s3://b/{0..3}.tar", 10.0),
    ]
    assert recipe(flags, tmp_path).data.train["train"].source == ("a/{0..9}.tar", "s3://b/{0..3}.tar")


@pytest.mark.parametrize("groups", range(6))
def test_as_many_blocks_are_unlocked_as_in_open_clip(groups: int) -> None:
    """Except for one group, which is only the projection, and is reported as a difference."""
    visual = VisionTransformer(image_size=8, patch_size=4, width=8, layers=3, heads=1, mlp_ratio=1, output_dim=4)
    visual.lock(unlocked_groups=groups)
    trained = sum(any(p.requires_grad for p in block.parameters()) for block in visual.transformer.resblocks)
    flags = f"{DATA} --model ViT-B-32 --lock-image --lock-image-unlocked-groups {groups}"
    ours = translate(flags).values["model"]["image"]["unlocked"]
    assert (min(ours, 3) == trained) is (groups != 1)
    assert ("the projection alone" in notes(flags)) is (groups == 1)


COOLED = "--lr-scheduler const-cooldown --epochs-cooldown 1"
SPLIT = "--dataset-type csv --val-data v.csv"
WITH = {  # flags that are read with others
    "--csv-separator": SPLIT, "--csv-img-key": SPLIT, "--csv-caption-key": SPLIT, "--val-frequency": SPLIT,
    "--epochs-cooldown": COOLED, "--lr-cooldown-end": COOLED, "--lr-cooldown-power": COOLED,
    "--lock-image-unlocked-groups": "--lock-image", "--lock-text-unlocked-layers": "--lock-text",
}  # fmt: skip
VALUES = {
    "--train-data-upsampling-factors": "2", "--csv-separator": ";", "--lr-scheduler": "const", "--report-to": "wandb",
    "--precision": "fp32", "--lr-cooldown-end": "1e-5", "--force-patch-dropout": "0.5",
}  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_flag_changes_the_recipe_or_is_reported(flag: Flag) -> None:
    """A flag with another value than its default. Kinds of data are excepted: file extensions decide them."""
    start = f"{DATA} --name x {WITH.get(flag.name, '')}"
    before = translate(start)
    found = translate(" ".join([start, flag.name, *value_for(flag)]))
    silent = found.values == before.values and not any(note.flag.startswith(flag.name) for note in found.notes)
    assert silent is (flag.name == "--dataset-type")


def value_for(flag: Flag) -> list[str]:
    """Any value that is not the default."""
    option = flag.option
    if option.get("action") == "store_true":
        return []
    if flag.name in VALUES:
        return [VALUES[flag.name]]
    if option.get("choices"):
        return [next(choice for choice in option["choices"] if choice != option.get("default"))]
    if option.get("nargs") == "*":
        return ["re_prob=0.5"]
    return ["ViT-B-16"] if flag.name == "--model" else ["3"]


def test_the_page_shows_the_table_of_flags() -> None:
    assert flag_table() in DOCS.read_text(encoding="utf-8")


def test_the_command_writes_a_valid_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip.yaml"
    command = f"torchrun --nproc_per_node 8 -m open_clip_train.main {DATA} --model ViT-B-32 --dist-backend nccl"
    assert main(["recipes", "from-open-clip", command, "--out", str(out)]) == 0
    assert "not needed: --dist-backend nccl: " in capsys.readouterr().err
    assert out.read_text(encoding="utf-8").startswith("# open_clip_train's open_clip:ViT-B-32\n")
    assert main(["recipes", "check", str(out)]) == 0
    assert capsys.readouterr().out.endswith(": 6272 steps of 512\n")
    assert main(["recipes", "from-open-clip", command]) == 0
    assert capsys.readouterr().out == out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("--train-data x.tar", "cannot convert --epochs 32 to steps without the number of samples; add"),
        (f"{DATA} --model RN51", "--model RN51: open_clip has no such architecture; did you mean `RN50`?"),
        (f"{DATA} --lrr 3", "open_clip_train 3.3.0 does not accept this command: unrecognized arguments: --lrr 3"),
        (f"{DATA} --lr-scheduler linear", "--lr-scheduler linear: give cosine, const or const-cooldown"),
        (f"{DATA} --batch-size 4000000", "samples are too few for a batch of 8000000; lower --batch-size"),
        ("--val-data v.tar", "no --train-data; add it, or evaluate a model with `tercet eval MODEL`"),
        ("train.sh 3", "the command has no `open_clip_train.main`"),
        ("--name 'x", "check its quotes"),
        (
            f"torchrun --nproc_per_node $GPUS -m open_clip_train.main {DATA}",
            "is not a number of processes; give it with --processes N",
        ),
        (f"srun -v python -u main.py {DATA}", "`srun` has no option with the number of processes; give it with"),
    ],
)
def test_mistakes_are_errors_of_one_line(command: str, error: str) -> None:
    accumulated = command + (" --accum-freq 2 --workers 1" if "4000000" in command else "")
    with pytest.raises(UserError, match=re.escape(error)):
        translate(accumulated)
