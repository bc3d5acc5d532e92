"""The flags of open_clip_train for optimisation, logs, checkpoints and processes."""

import math
from collections.abc import Iterable, Iterator

from tercet.errors import UserError
from tercet.training.from_open_clip.command import Command
from tercet.training.from_open_clip.flag import (
    SWITCH,
    Flag,
    Key,
    Note,
    kept,
    lacking,
    needless,
    note_if_given,
    taking,
    with_another,
)
from tercet.training.from_open_clip.pace import batch_size, steps_an_epoch

TRANSFORMER = {"lr": 5e-4, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6}  # with `vit` in the model's name
OTHER = {"lr": 5e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
PRECISIONS = ("amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16", "pure_fp16", "fp32")


def rate(command: Command, name: str) -> float:
    """The given value, or open_clip_train's default, which depends on the model's name."""
    defaults = TRANSFORMER if "vit" in command["--model"].lower() else OTHER
    given: float | None = command[f"--{name}"]
    return defaults[name] if given is None else given


def optimizer(command: Command) -> Iterator[Key | Note]:
    name = command["--opt"].lower()
    if name != "adamw":
        yield Note("no counterpart", command.spelt("--opt"), "tercet uses AdamW instead; a plugin can register others")
    yield Key("optimizer.name", "adamw")


def learning_rate(command: Command) -> Iterable[Key]:
    return [Key("optimizer.lr", rate(command, "lr"))]


def betas(command: Command) -> Iterable[Key]:
    return [Key("optimizer.betas", [rate(command, "beta1"), rate(command, "beta2")])]


def epsilon(command: Command) -> Iterable[Key]:
    return [Key("optimizer.eps", rate(command, "eps"))]


def batch(command: Command) -> Iterable[Key]:
    return [Key("batch_size", batch_size(command))]


def steps(command: Command) -> Iterable[Key]:
    return [Key("steps", command["--epochs"] * steps_an_epoch(command))]


def accumulation(command: Command) -> Iterator[Key | Note]:
    if command["--accum-freq"] > 1:
        yield Key("micro_batch", command["--batch-size"])
        reason = "tercet's gradients are exact; open_clip sums the temperature's gradient once for each micro-batch"
        yield Note("differs", command.spelt("--accum-freq"), reason)


def schedule(command: Command) -> Iterator[Key]:
    name = command["--lr-scheduler"]
    if name not in ("cosine", "const", "const-cooldown"):
        raise UserError(f"--lr-scheduler {name}: give cosine, const or const-cooldown")
    if command["--skip-scheduler"]:
        yield Key("schedule.name", "constant")
        return
    yield Key("schedule.name", "cosine" if name == "cosine" else "constant")
    yield Key("schedule.warmup", command["--warmup"])


def cooldown(command: Command) -> Iterator[Key]:
    """One step less, because open_clip_train starts to lower the rate one step later than tercet."""
    epochs = command["--epochs-cooldown"]
    if cools_down(command):
        if epochs is None:
            raise UserError("--lr-scheduler const-cooldown: add --epochs-cooldown N")
        yield Key("schedule.cooldown", max(0, epochs * steps_an_epoch(command) - 1))


def cooldown_end(command: Command) -> Iterable[Key]:
    end: float = command["--lr-cooldown-end"]
    return [Key("schedule.floor", end / rate(command, "lr"))] if cools_down(command) and end else []


def cooldown_power(command: Command) -> Iterable[Note]:
    reason = "tercet lowers the rate linearly"
    is_curved = cools_down(command) and command["--lr-cooldown-power"] != 1.0
    return note_if_given(command, "no counterpart", "--lr-cooldown-power", reason) if is_curved else []


def cools_down(command: Command) -> bool:
    return command["--lr-scheduler"] == "const-cooldown" and not command["--skip-scheduler"]


def objective(command: Command) -> Iterator[Key]:
    """InfoNCE or the sigmoid loss. As in open_clip_train, the scale is at most 100."""
    yield Key("pairs", {"image-text": 1.0})
    if command["--siglip"]:
        yield Key("objective", {"name": "sigmoid", "scale": 10, "bounds": [1, 100], "bias": -10})
    else:
        yield Key("objective", "infonce")


def precision(command: Command) -> Iterator[Key | Note]:
    given = command["--precision"]
    yield Key("precision", "fp32" if given == "fp32" else "bf16")
    if given not in ("fp32", "amp_bf16", "amp_bfloat16"):
        reason = "the towers compute in bf16, which needs no loss scaling; the weights stay in fp32"
        yield Note("differs", command.spelt("--precision"), reason)


def clip(command: Command) -> Iterable[Key]:
    return [Key("clip", command["--grad-clip-norm"] or 0.0)]


def checkpoints(command: Command) -> Iterator[Key]:
    epochs, frequency = command["--epochs"], command["--save-frequency"]
    if frequency > 0:
        yield Key("checkpoint.every", frequency * steps_an_epoch(command))
        kept = 1 if command["--delete-previous-checkpoint"] else math.ceil(epochs / frequency)
        yield Key("checkpoint.keep", kept)


def evaluations(command: Command) -> Iterable[Key]:
    frequency = command["--val-frequency"]
    return [Key("eval.every", frequency * steps_an_epoch(command))] if command["--val-data"] and frequency else []


def loggers(command: Command) -> Iterable[Key]:
    given = command["--report-to"]
    chosen = [name for name in ("tensorboard", "wandb") if name in given or "all" in given]
    return [Key("log.to", ["console", *chosen])]


def folder(command: Command) -> Iterable[Key]:
    logs, name = command["--logs"], command["--name"]
    has_folder = name and logs and logs.lower() != "none" and "--logs" in command.given
    return [Key("out", f"{logs.rstrip('/')}/{name}")] if has_folder else []


LAUNCHER = "tercet detects the device and the launcher, torchrun or deepspeed"
ONE_LOGS = "only rank 0 logs, on the console and to the run's folder"
EXACT = "gradients are always exact over all ranks"
REMOTE = "copy the run's folder with any tool"
COMPILED = "tercet runs the towers in eager mode"

TRAINING_FLAGS = (
    Flag("--opt", taking(str, "adamw"), "`optimizer.name`; only `adamw` has a counterpart", optimizer),
    Flag("--lr", taking(float), "`optimizer.lr`; default: 5e-4", learning_rate),
    Flag("--beta1", taking(float), "`optimizer.betas`; default: 0.9", betas),
    with_another(
        "--beta2", taking(float), "`optimizer.betas`; default: 0.98 with `vit` in the model's name, else 0.999"
    ),
    Flag("--eps", taking(float), "`optimizer.eps`; default: 1e-6 with `vit` in the model's name, else 1e-8", epsilon),
    kept("--wd", taking(float, 0.2), "optimizer.weight_decay"),
    lacking("--momentum", taking(float), "only timm's optimizers have it"),
    Flag("--batch-size", taking(int, 64), "`batch_size`: times the processes, times `--accum-freq`", batch),
    Flag("--epochs", taking(int, 32), "`steps`: times the batches of an epoch, rounded as in open_clip_train", steps),
    Flag("--accum-freq", taking(int, 1), "`micro_batch`: the batch size of one process", accumulation),
    Flag("--lr-scheduler", taking(str, "cosine"), "`schedule.name`: `cosine` or `constant`", schedule),
    with_another("--skip-scheduler", SWITCH, "`schedule.name: constant` without warm-up"),
    with_another("--warmup", taking(int, 10000), "`schedule.warmup`"),
    Flag("--epochs-cooldown", taking(int), "`schedule.cooldown`, in steps", cooldown),
    Flag("--lr-cooldown-end", taking(float, 0.0), "`schedule.floor`, as a share of `optimizer.lr`", cooldown_end),
    Flag(
        "--lr-cooldown-power",
        taking(float, 1.0),
        "no counterpart except for 1: the rate falls linearly",
        cooldown_power,
    ),
    Flag("--siglip", SWITCH, "`objective: sigmoid`, with an initial scale of 10 and bias of −10", objective),
    Flag(
        "--precision", taking(str, "amp", choices=[*PRECISIONS]), "`precision`: `fp32`, or `bf16` for others", precision
    ),
    Flag("--grad-clip-norm", taking(float), "`clip`; default: 0, which does not clip", clip),
    kept("--seed", taking(int, 0), "seed"),
    Flag("--save-frequency", taking(int, 1), "`checkpoint.every`, in steps", checkpoints),
    with_another(
        "--delete-previous-checkpoint",
        SWITCH,
        "`checkpoint.keep: 1`; without it, `checkpoint.keep` is the number of all checkpoints",
    ),
    needless("--save-most-recent", SWITCH, "tercet commits checkpoints atomically and resumes from the newest"),
    Flag("--val-frequency", taking(int, 1), "`eval.every`, in steps, with `--val-data`", evaluations),
    lacking("--zeroshot-frequency", taking(int, 2), "`eval.every` sets how often tercet evaluates held-out data"),
    kept("--log-every-n-steps", taking(int, 100), "log.every"),
    Flag("--report-to", taking(str, ""), "`log.to`", loggers),
    kept("--name", taking(), "name"),
    Flag("--logs", taking(str, "./logs/"), "`out`, with `--name`; default: runs/NAME", folder),
    needless("--log-local", SWITCH, ONE_LOGS),
    lacking("--wandb-notes", taking(str, ""), "write notes on the run's page"),
    lacking("--wandb-project-name", taking(str, "open-clip"), "the name of the project is tercet"),
    needless("--debug", SWITCH, ONE_LOGS),
    needless("--copy-codebase", SWITCH, "a run records the commit that it ran on"),
    needless("--local-loss", SWITCH, EXACT),
    needless("--gather-with-grad", SWITCH, EXACT),
    needless("--loss-dist-impl", taking(), EXACT),
    needless("--device", {**taking(str, "cuda")}, LAUNCHER),
    needless("--dist-url", taking(), LAUNCHER),
    needless("--dist-backend", taking(), LAUNCHER),
    needless("--horovod", SWITCH, LAUNCHER),
    needless("--ddp-static-graph", SWITCH, LAUNCHER),
    needless("--no-set-device-rank", SWITCH, LAUNCHER),
    needless("--cache-dir", taking(), "set the folder for downloads with HF_HUB_CACHE"),
    lacking("--torchscript", SWITCH, COMPILED),
    lacking("--torchcompile", SWITCH, COMPILED),
    lacking("--trace", SWITCH, COMPILED),
    lacking("--remote-sync", taking(), REMOTE),
    lacking("--remote-sync-frequency", taking(int, 300), REMOTE),
    lacking("--remote-sync-protocol", taking(str, "s3", choices=["s3", "fsspec"]), REMOTE),
)
