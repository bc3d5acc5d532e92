"""Their flags about the optimisation, its record, and the machinery around it."""

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
    taking,
    told,
    with_another,
)
from tercet.training.from_open_clip.pace import batch_size, steps_an_epoch

TRANSFORMER = {"lr": 5e-4, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6}  # with `vit` in the model's name
OTHER = {"lr": 5e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
PRECISIONS = ("amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16", "pure_fp16", "fp32")


def rate(command: Command, name: str) -> float:
    """As given, or as they choose by the model's name."""
    defaults = TRANSFORMER if "vit" in command["--model"].lower() else OTHER
    given: float | None = command[f"--{name}"]
    return defaults[name] if given is None else given


def optimizer(command: Command) -> Iterator[Key | Note]:
    name = command["--opt"].lower()
    if name != "adamw":
        yield Note("no counterpart", command.spelt("--opt"), "AdamW takes its place; another registers as a plugin")
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
        reason = "gradients are those of the whole batch, the temperature's too, which theirs counts once a part"
        yield Note("differs", command.spelt("--accum-freq"), reason)


def schedule(command: Command) -> Iterator[Key]:
    name = command["--lr-scheduler"]
    if name not in ("cosine", "const", "const-cooldown"):
        raise UserError(f"--lr-scheduler {name}: open_clip_train knows cosine, const and const-cooldown")
    if command["--skip-scheduler"]:
        yield Key("schedule.name", "constant")
        return
    yield Key("schedule.name", "cosine" if name == "cosine" else "constant")
    yield Key("schedule.warmup", command["--warmup"])


def cooldown(command: Command) -> Iterator[Key]:
    """Theirs begins its fall one step later than ours would over as many steps."""
    epochs = command["--epochs-cooldown"]
    if cools_down(command):
        if epochs is None:
            raise UserError("--lr-scheduler const-cooldown needs --epochs-cooldown")
        yield Key("schedule.cooldown", max(0, epochs * steps_an_epoch(command) - 1))


def cooldown_end(command: Command) -> Iterable[Key]:
    end: float = command["--lr-cooldown-end"]
    return [Key("schedule.floor", end / rate(command, "lr"))] if cools_down(command) and end else []


def cooldown_power(command: Command) -> Iterable[Note]:
    reason = "the rate falls linearly"
    bent = cools_down(command) and command["--lr-cooldown-power"] != 1.0
    return told(command, "no counterpart", "--lr-cooldown-power", reason) if bent else []


def cools_down(command: Command) -> bool:
    return command["--lr-scheduler"] == "const-cooldown" and not command["--skip-scheduler"]


def objective(command: Command) -> Iterator[Key]:
    """Both temperatures end at 100, as theirs do."""
    yield Key("pairs", {"image-text": 1.0})
    if command["--siglip"]:
        yield Key("objective", {"name": "sigmoid", "scale": 10, "bounds": [1, 100], "bias": -10})
    else:
        yield Key("objective", "infonce")


def precision(command: Command) -> Iterator[Key | Note]:
    asked = command["--precision"]
    yield Key("precision", "fp32" if asked == "fp32" else "bf16")
    if asked not in ("fp32", "amp_bf16", "amp_bfloat16"):
        reason = "weights stay in fp32 and the towers compute in bf16, which needs no scaling of the loss"
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
    asked = command["--report-to"]
    named = [name for name in ("tensorboard", "wandb") if name in asked or "all" in asked]
    return [Key("log.to", ["console", *named])]


def folder(command: Command) -> Iterable[Key]:
    logs, name = command["--logs"], command["--name"]
    stored = name and logs and logs.lower() != "none" and "--logs" in command.given
    return [Key("out", f"{logs.rstrip('/')}/{name}")] if stored else []


LAUNCHER = "torchrun, deepspeed or none starts the processes, and the device is found"
ONE_SPEAKS = "one process speaks, and the run's folder holds what it said"
EXACT = "gradients are exact over all ranks, whatever the memory allows"
REMOTE = "a run's folder is copied by whatever copies folders"
COMPILED = "towers run as they are written"

TRAINING_FLAGS = (
    Flag("--opt", taking(str, "adamw"), "`optimizer.name`; `adamw` alone has a counterpart", optimizer),
    Flag("--lr", taking(float), "`optimizer.lr`; 5e-4 where it is not given", learning_rate),
    Flag("--beta1", taking(float), "`optimizer.betas`; 0.9 where it is not given", betas),
    with_another("--beta2", taking(float), "`optimizer.betas`; 0.98 with `vit` in the model's name, else 0.999"),
    Flag("--eps", taking(float), "`optimizer.eps`; 1e-6 with `vit` in the model's name, else 1e-8", epsilon),
    kept("--wd", taking(float, 0.2), "optimizer.weight_decay"),
    lacking("--momentum", taking(float), "it belongs to timm's optimizers"),
    Flag("--batch-size", taking(int, 64), "`batch_size`: times the processes, times `--accum-freq`", batch),
    Flag("--epochs", taking(int, 32), "`steps`: the epochs times an epoch's batches, rounded as theirs", steps),
    Flag("--accum-freq", taking(int, 1), "`micro_batch`: the batch size of one process", accumulation),
    Flag("--lr-scheduler", taking(str, "cosine"), "`schedule.name`: `cosine` or `constant`", schedule),
    with_another("--skip-scheduler", SWITCH, "`schedule.name: constant` without warm-up"),
    with_another("--warmup", taking(int, 10000), "`schedule.warmup`"),
    Flag("--epochs-cooldown", taking(int), "`schedule.cooldown`, in steps", cooldown),
    Flag("--lr-cooldown-end", taking(float, 0.0), "`schedule.floor`, as a share of `optimizer.lr`", cooldown_end),
    Flag("--lr-cooldown-power", taking(float, 1.0), "no counterpart beyond 1: the rate falls linearly", cooldown_power),
    Flag("--siglip", SWITCH, "`objective: sigmoid`, from a scale of 10 and a bias of −10", objective),
    Flag("--precision", taking(str, "amp", choices=[*PRECISIONS]), "`precision`: `fp32` or else `bf16`", precision),
    Flag("--grad-clip-norm", taking(float), "`clip`; 0 where it is not given", clip),
    kept("--seed", taking(int, 0), "seed"),
    Flag("--save-frequency", taking(int, 1), "`checkpoint.every`, in steps", checkpoints),
    with_another("--delete-previous-checkpoint", SWITCH, "`checkpoint.keep: 1`; else all of them are kept"),
    needless("--save-most-recent", SWITCH, "the newest checkpoint is whole or not there"),
    Flag("--val-frequency", taking(int, 1), "`eval.every`, in steps, where there is `--val-data`", evaluations),
    lacking("--zeroshot-frequency", taking(int, 2), "a run is evaluated on its own held-out data while it trains"),
    kept("--log-every-n-steps", taking(int, 100), "log.every"),
    Flag("--report-to", taking(str, ""), "`log.to`", loggers),
    kept("--name", taking(), "name"),
    Flag("--logs", taking(str, "./logs/"), "`out`, with `--name`; else runs/NAME", folder),
    needless("--log-local", SWITCH, ONE_SPEAKS),
    lacking("--wandb-notes", taking(str, ""), "write them on the run's page"),
    lacking("--wandb-project-name", taking(str, "open-clip"), "the project is called tercet"),
    needless("--debug", SWITCH, ONE_SPEAKS),
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
    needless("--cache-dir", taking(), "downloads lie where HF_HUB_CACHE says"),
    lacking("--torchscript", SWITCH, COMPILED),
    lacking("--torchcompile", SWITCH, COMPILED),
    lacking("--trace", SWITCH, COMPILED),
    lacking("--remote-sync", taking(), REMOTE),
    lacking("--remote-sync-frequency", taking(int, 300), REMOTE),
    lacking("--remote-sync-protocol", taking(str, "s3", choices=["s3", "fsspec"]), REMOTE),
)
