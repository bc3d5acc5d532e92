"""The flags of open_clip_train for the model: its architecture, its weights, and its locked parts."""

from collections.abc import Iterable, Iterator

from tercet.errors import UserError
from tercet.training.from_open_clip.architecture import architecture
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

TOWERS = ("image", "text")


def model(command: Command) -> Iterator[Key | Note]:
    found = architecture(command["--model"])
    yield Key("model.dim", found.dim)
    for tower in TOWERS:
        yield Key(f"model.{tower}.encoder", f"open_clip:{found.name}")
    if found.resnet:
        yield Key("model.image.frozen_batchnorm", True)
        reason = "BatchNorm keeps its initial statistics, because those of a batch would mix the samples of the batch"
        yield Note("differs", command.spelt("--model"), reason)
    if "coca" in found.name.lower():
        yield Note("no counterpart", command.spelt("--model"), "tercet trains CoCa without its captioning loss")


def weights(command: Command) -> Iterable[Key]:
    """The weights of `--pretrained`. With `--resume PATH`, that checkpoint replaces them."""
    if command["--resume"] not in (None, "latest"):
        return []
    tag = command["--pretrained"]
    return [Key("init", f"open_clip:{architecture(command['--model']).name}/{tag}")] if tag else []


def resume(command: Command) -> Iterable[Key | Note]:
    path = command["--resume"]
    if path == "latest":
        return note_if_given(command, "not needed", "--resume", "run the same `tercet train` again to resume")
    return [Key("init", path)] if path else []


def lock_image(command: Command) -> Iterable[Key | Note]:
    return locked(command, "image", "--lock-image-unlocked-groups") if command["--lock-image"] else []


def lock_text(command: Command) -> Iterable[Key | Note]:
    return locked(command, "text", "--lock-text-unlocked-layers") if command["--lock-text"] else []


def locked(command: Command, tower: str, flag: str) -> Iterator[Key | Note]:
    """open_clip counts the projection as a separate group. In tercet it belongs to the last block."""
    count, found = command[flag], architecture(command["--model"])
    foreign = found.timm_image if tower == "image" else found.hugging_face_text
    yield Key(f"model.{tower}.unlocked", count if foreign else count - (count > 1))
    if foreign:
        library = "timm" if tower == "image" else "Hugging Face"
        reason = f"open_clip counts the groups of {library}; tercet counts blocks, and the last one includes the head"
        yield Note("differs", command.spelt(flag), reason)
    elif count == 1:
        reason = "open_clip then trains the projection alone; tercet also trains the last block"
        yield Note("differs", command.spelt(flag), reason)


def checkpointing(command: Command) -> Iterator[Key | Note]:
    if not command["--grad-checkpointing"]:
        return
    yield Key("model.text.grad_checkpointing", True)
    if not architecture(command["--model"]).resnet:
        yield Key("model.image.grad_checkpointing", True)
    else:
        yield Note("not needed", "--grad-checkpointing", "open_clip's ResNets ignore it, too")


def image_size(command: Command) -> Iterable[Key]:
    sizes: list[int] | None = command["--force-image-size"]
    if sizes and len(sizes) > 2:
        raise UserError(f"{command.spelt('--force-image-size')}: give one size, or a height and a width")
    if not sizes:
        return []
    square = len(set(sizes)) == 1
    return [Key("model.image.size", sizes[0]) if square else Key("model.image.options.force_image_size", sizes)]


LOCKED_STILL = "locked parts stay in evaluation mode"
UNLOCKED = "with `{}`: `model.{}.unlocked`, a number of blocks; open_clip also counts the projection"

MODEL_FLAGS = (
    Flag("--model", taking(str, "RN50"), "`model.image.encoder`, `model.text.encoder` and `model.dim`", model),
    Flag("--pretrained", taking(str, ""), "`init: open_clip:MODEL/TAG`", weights),
    kept("--pretrained-image", SWITCH, "model.image.options.pretrained_image"),
    Flag("--resume", taking(), "`init`; for `latest`, run the same `tercet train` again", resume),
    Flag("--lock-image", SWITCH, "`model.image.unlocked`", lock_image),
    with_another("--lock-image-unlocked-groups", taking(int, 0), UNLOCKED.format("--lock-image", "image")),
    needless("--lock-image-freeze-bn-stats", SWITCH, LOCKED_STILL),
    Flag("--lock-text", SWITCH, "`model.text.unlocked`", lock_text),
    with_another("--lock-text-unlocked-layers", taking(int, 0), UNLOCKED.format("--lock-text", "text")),
    needless("--lock-text-freeze-layer-norm", SWITCH, LOCKED_STILL),
    Flag("--grad-checkpointing", SWITCH, "`grad_checkpointing` of both towers", checkpointing),
    kept("--force-context-length", taking(int), "model.text.options.force_context_length"),
    Flag("--force-image-size", {**taking(int), "nargs": "+"}, "`model.image.size`", image_size),
    kept(
        "--force-quick-gelu",
        SWITCH,
        *(f"model.{tower}.options.force_quick_gelu" for tower in TOWERS),
    ),
    kept("--force-patch-dropout", taking(float), "model.image.patch_dropout"),
    needless("--force-custom-text", SWITCH, "tercet always builds the towers separately"),
    lacking("--use-bn-sync", SWITCH, "the statistics of BatchNorm are frozen"),
    lacking("--use-bnb-linear", {"default": None}, "no 8-bit layers"),
    lacking("--distill-model", {"default": None}, "no distillation from another model"),
    lacking("--distill-pretrained", {"default": None}, "no distillation from another model"),
    lacking("--coca-caption-loss-weight", taking(float, 2.0), "no captioning loss"),
    lacking("--coca-contrastive-loss-weight", taking(float, 1.0), "it is the only loss; `pairs` has its weight"),
)
