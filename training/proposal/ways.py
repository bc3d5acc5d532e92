"""How to train, by how many pairs there are: the one place of the numbers, each with where it stands written.

What the command proposes and what `docs/choose.md` tables is this list. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

ZANELLA = "Zanella & Ben Ayed 2024"
GAO = "Gao et al. 2021"
GOYAL = "Goyal et al. 2023"
ZHAI = "Zhai et al. 2022"
RADFORD = "Radford et al. 2021"
LI = "Li et al. 2024"
DEMO = "the recipe `demo`"


@dataclass(frozen=True)
class Way:
    """One way to train. `recipes` names what it extends for each set of modalities that it is for."""

    name: str
    title: str
    why: str
    recipes: Mapping[frozenset[str], str]
    batch_size: int
    lr: float
    warmup: int | float  # steps, or a share of them
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    epochs: int
    sources: Mapping[str, str]  # by field

    @property
    def pretrained(self) -> bool:
        """It begins from weights."""
        return self.name not in ("small", "scratch")


PICTURES, SOUNDS = frozenset(("image", "text")), frozenset(("audio", "text"))
ALL = PICTURES | SOUNDS

ADAPTERS = Way(
    name="adapters",
    title="adapters: LoRA in pretrained towers",
    why="so few pairs would bend whole towers; a few matrices of low rank learn what is new and forget little",
    recipes={PICTURES: "finetune_lora"},
    batch_size=128,
    lr=2e-4,
    warmup=0,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=20,
    sources={
        "batch_size": f"four times that of {ZANELLA}, who contrast with all classes: here the batch is all there is",
        "lr": ZANELLA,
        "warmup": f"none in {ZANELLA}: adapters begin as nothing",
        "weight_decay": ZANELLA,
        "betas": ZANELLA,
        "epochs": f"{GOYAL}, on their smaller sets",
    },
)
BOTTLENECK = replace(
    ADAPTERS,
    name="bottleneck",
    title="adapters: a bottleneck on the outputs of locked towers",
    why=f"so few pairs would bend whole towers; what corrects their outputs ({GAO}) needs no way back through them",
    recipes={PICTURES: "finetune_clip", SOUNDS: "finetune_clap"},
)
FINETUNING = Way(
    name="fine-tuning",
    title="fine-tuning of pretrained towers",
    why="enough pairs to move whole towers a little, too few to make them",
    recipes={PICTURES: "finetune_clip", SOUNDS: "finetune_clap"},
    batch_size=512,
    lr=1e-5,
    warmup=500,
    weight_decay=0.1,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=10,
    sources=dict.fromkeys(("batch_size", "lr", "warmup", "weight_decay", "betas", "epochs"), GOYAL),
)
LOCKED = Way(
    name="locked",
    title="LiT: a locked image tower, and text that learns to read it out",
    why="enough pairs for a text tower, fewer than a picture tower has already seen",
    recipes={PICTURES: "finetune_lit"},
    batch_size=4096,
    lr=1e-3,
    warmup=0.03,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=10,
    sources=dict.fromkeys(("batch_size", "lr", "warmup", "weight_decay", "betas", "epochs"), ZHAI),
)
SCRATCH = Way(
    name="scratch",
    title="from scratch",
    why="enough pairs that towers which know nothing catch up",
    recipes={PICTURES: "image_text", SOUNDS: "audio_text", ALL: "trimodal"},
    batch_size=8192,
    lr=5e-4,
    warmup=2_000,
    weight_decay=0.2,
    betas=(0.9, 0.98),
    eps=1e-6,
    epochs=32,
    sources=dict.fromkeys(("lr", "warmup", "weight_decay", "betas", "epochs"), RADFORD)
    | {"batch_size": f"a quarter of {RADFORD}: what one machine of eight GPUs holds"},
)
SMALL = Way(
    name="small",
    title="small towers from scratch",
    why=f"smaller towers are the better ones for little data and little compute ({LI})",
    recipes={},
    batch_size=256,
    lr=2e-3,
    warmup=30,
    weight_decay=0.2,
    betas=(0.9, 0.98),
    eps=1e-6,
    epochs=32,
    sources=dict.fromkeys(("batch_size", "lr", "warmup"), DEMO)
    | dict.fromkeys(("weight_decay", "betas", "epochs"), RADFORD),
)

# Up to so many pairs, these ways, the first that nothing stands against; nothing ever stands against small towers.
SCALES: tuple[tuple[float, tuple[Way, ...]], ...] = (
    (10_000, (ADAPTERS, BOTTLENECK, SMALL)),
    (1_000_000, (FINETUNING, SMALL)),
    (20_000_000, (LOCKED, SCRATCH, SMALL)),
    (float("inf"), (SCRATCH, SMALL)),
)


def ways_for(pairs: int) -> tuple[Way, ...]:
    return next(ways for most, ways in SCALES if pairs <= most)
