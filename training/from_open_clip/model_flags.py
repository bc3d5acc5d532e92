"""Their flags about the model: its architecture, its weights, and which part of it is locked."""

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
    taking,
    told,
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
        reason = "BatchNorm keeps the statistics that it starts with, because a batch's own tie a row to its neighbours"
        yield Note("differs", command.spelt("--model"), reason)
    if "coca" in found.name.lower():
        yield Note("no counterpart", command.spelt("--model"), "the contrastive loss trains CoCa; captions do not")


def weights(command: Command) -> Iterable[Key]:
    """Where training goes on outweighs where it began."""
    if command["--resume"] not in (None, "latest"):
        return []
    tag = command["--pretrained"]
    return [Key("init", f"open_clip:{architecture(command['--model']).name}/{tag}")] if tag else []


def resume(command: Command) -> Iterable[Key | Note]:
    path = command["--resume"]
    if path == "latest":
        return told(command, "not needed", "--resume", "the same command resumes its run")
    return [Key("init", path)] if path else []


def lock_image(command: Command) -> Iterable[Key | Note]:
    return locked(command, "image", "--lock-image-unlocked-groups") if command["--lock-image"] else []


def lock_text(command: Command) -> Iterable[Key | Note]:
    return locked(command, "text", "--lock-text-unlocked-layers") if command["--lock-text"] else []


def locked(command: Command, tower: str, flag: str) -> Iterator[Key | Note]:
    """Theirs counts the projection as a group of its own; here it goes with the last block."""
    count, found = command[flag], architecture(command["--model"])
    foreign = found.timm_image if tower == "image" else found.hugging_face_text
    yield Key(f"model.{tower}.unlocked", count if foreign else count - (count > 1))
    if foreign:
        library = "timm" if tower == "image" else "Hugging Face"
        reason = f"a tower of {library}'s has its own groups; here its blocks count, and the head goes with the last"
        yield Note("differs", command.spelt(flag), reason)
    elif count == 1:
        reason = "that group is the projection alone; here the last block trains with it"
        yield Note("differs", command.spelt(flag), reason)


def checkpointing(command: Command) -> Iterator[Key | Note]:
    if not command["--grad-checkpointing"]:
        return
    yield Key("model.text.grad_checkpointing", True)
    if not architecture(command["--model"]).resnet:
        yield Key("model.image.grad_checkpointing", True)
    else:
        yield Note("not needed", "--grad-checkpointing", "open_clip's ResNets do not checkpoint theirs either")


def image_size(command: Command) -> Iterable[Key]:
    sizes: list[int] | None = command["--force-image-size"]
    if sizes and len(sizes) > 2:
        raise UserError(f"{command.spelt('--force-image-size')}: a picture has a height and a width")
    if not sizes:
        return []
    one = len(set(sizes)) == 1
    return [Key("model.image.size", sizes[0]) if one else Key("model.image.options.force_image_size", sizes)]


LOCKED_STILL = "locked parts stay in evaluation mode"
UNLOCKED = "here of blocks; theirs counts the projection as one of its own"

MODEL_FLAGS = (
    Flag("--model", taking(str, "RN50"), "`model.image.encoder`, `model.text.encoder` and `model.dim`", model),
    Flag("--pretrained", taking(str, ""), "`init: open_clip:MODEL/TAG`", weights),
    kept("--pretrained-image", SWITCH, "model.image.options.pretrained_image"),
    Flag("--resume", taking(), "`init`; for `latest`, the same command resumes its run", resume),
    Flag("--lock-image", SWITCH, "`model.image.unlocked`", lock_image),
    with_another("--lock-image-unlocked-groups", taking(int, 0), f"the number {UNLOCKED}"),
    needless("--lock-image-freeze-bn-stats", SWITCH, LOCKED_STILL),
    Flag("--lock-text", SWITCH, "`model.text.unlocked`", lock_text),
    with_another("--lock-text-unlocked-layers", taking(int, 0), f"the number {UNLOCKED}"),
    needless("--lock-text-freeze-layer-norm", SWITCH, LOCKED_STILL),
    Flag("--grad-checkpointing", SWITCH, "`grad_checkpointing` of both towers", checkpointing),
    kept("--force-context-length", taking(int), "model.text.options.force_context_length"),
    Flag("--force-image-size", {**taking(int), "nargs": "+"}, "`model.image.size`", image_size),
    kept(
        "--force-quick-gelu",
        SWITCH,
        *(f"model.{tower}.options.force_quick_gelu" for tower in TOWERS),
    ),
    kept("--force-patch-dropout", taking(float), "model.image.options.force_patch_dropout"),
    needless("--force-custom-text", SWITCH, "towers are always built apart"),
    lacking("--use-bn-sync", SWITCH, "BatchNorm's statistics are frozen, alone and on many ranks"),
    lacking("--use-bnb-linear", {"default": None}, "no 8-bit layers"),
    lacking("--distill-model", {"default": None}, "no distillation from another model"),
    lacking("--distill-pretrained", {"default": None}, "no distillation from another model"),
    lacking("--coca-caption-loss-weight", taking(float, 2.0), "no captioning loss"),
    lacking("--coca-contrastive-loss-weight", taking(float, 1.0), "it is the only loss; its weight stands in `pairs`"),
)
