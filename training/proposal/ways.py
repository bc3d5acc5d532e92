"""How to train, by the number of pairs. Every number has its source beside it.

`tercet recipes new` proposes these, and `docs/choose.md` lists them. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

GAO = "Gao et al. 2021"
GOYAL = "Goyal et al. 2023"
LI = "Li et al. 2024"
RADFORD = "Radford et al. 2021"
WU = "Wu et al. 2023"
ZANELLA = "Zanella & Ben Ayed 2024"
ZHAI = "Zhai et al. 2022"
DEMO = "the recipe `demo`"

PICTURES, SOUNDS = frozenset(("image", "text")), frozenset(("audio", "text"))
NUMBERS = ("batch_size", "lr", "warmup", "weight_decay", "betas", "epochs")


@dataclass(frozen=True)
class Way:
    """One way to train on data of these modalities: a base recipe and the numbers to use with it."""

    title: str
    why: str
    modalities: frozenset[str]
    recipe: str | None
    batch_size: int
    lr: float
    warmup: int | float  # steps, or a share of them
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    epochs: int
    sources: Mapping[str, str]  # of NUMBERS
    pretrained: bool = True  # it starts from weights


ADAPTERS = Way(
    title="adapters: LoRA in pretrained towers",
    why="so few pairs would spoil whole towers; a few matrices of low rank learn what is new and forget little",
    modalities=PICTURES,
    recipe="finetune_lora",
    batch_size=128,
    lr=2e-4,
    warmup=0,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=20,
    sources=dict.fromkeys(("lr", "weight_decay", "betas"), ZANELLA)
    | {
        "batch_size": f"four times that of {ZANELLA}, who contrast with all classes: here, with the batch",
        "warmup": f"none, as in {ZANELLA}: adapters start as the identity",
        "epochs": f"{GOYAL}, on their smaller sets",
    },
)
BOTTLENECK = replace(
    ADAPTERS,
    title="adapters: a bottleneck on the outputs of locked towers",
    why=f"so few pairs would spoil whole towers; correcting their outputs ({GAO}) needs no backpropagation",
    recipe="finetune_clip",
)
BOTTLENECK_OF_SOUNDS = replace(BOTTLENECK, modalities=SOUNDS, recipe="finetune_clap")
FINETUNING = Way(
    title="fine-tuning of pretrained towers",
    why="enough pairs to adjust whole towers, too few to train them from scratch",
    modalities=PICTURES,
    recipe="finetune_clip",
    batch_size=512,
    lr=1e-5,
    warmup=500,
    weight_decay=0.1,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=10,
    sources=dict.fromkeys(NUMBERS, GOYAL),
)
FINETUNING_OF_SOUNDS = replace(
    FINETUNING,
    modalities=SOUNDS,
    recipe="finetune_clap",
    batch_size=768,
    lr=1e-4,
    warmup=3_200,
    weight_decay=0.0,
    epochs=45,
    sources=dict.fromkeys(NUMBERS, WU),
)
LOCKED = Way(
    title="LiT: a locked image tower, and text that learns to read it out",
    why="enough pairs to train a text tower, fewer than a good image tower was trained on",
    modalities=PICTURES,
    recipe="finetune_lit",
    batch_size=4096,
    lr=1e-3,
    warmup=0.03,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=10,
    sources=dict.fromkeys(NUMBERS, ZHAI) | {"epochs": f"as {GOYAL}; {ZHAI} count steps instead"},
)
SCRATCH = Way(
    title="from scratch",
    why="enough pairs for towers without pretraining",
    modalities=PICTURES,
    recipe="image_text",
    batch_size=8192,
    lr=5e-4,
    warmup=2_000,
    weight_decay=0.2,
    betas=(0.9, 0.98),
    eps=1e-6,
    epochs=32,
    sources=dict.fromkeys(NUMBERS, RADFORD) | {"batch_size": f"the recipe `image_text`: a quarter of {RADFORD}"},
    pretrained=False,
)
SCRATCH_OF_SOUNDS = replace(
    SCRATCH,
    modalities=SOUNDS,
    recipe="audio_text",
    batch_size=2048,
    sources={**SCRATCH.sources, "batch_size": "the recipe `audio_text`"},
)
SCRATCH_OF_ALL = replace(
    SCRATCH,
    modalities=PICTURES | SOUNDS,
    recipe="trimodal",
    batch_size=4096,
    sources={**SCRATCH.sources, "batch_size": "the recipe `trimodal`"},
)
SMALL = Way(
    title="small towers from scratch",
    why=f"smaller towers are better for little data and little compute ({LI})",
    modalities=frozenset(),  # any
    recipe=None,
    batch_size=256,
    lr=2e-3,
    warmup=30,
    weight_decay=0.2,
    betas=(0.9, 0.98),
    eps=1e-6,
    epochs=32,
    sources=dict.fromkeys(("batch_size", "lr", "warmup"), DEMO)
    | dict.fromkeys(("weight_decay", "betas", "epochs"), RADFORD),
    pretrained=False,
)

# Up to so many pairs, the first of these ways without an objection.
FROM_SCRATCH = (SCRATCH, SCRATCH_OF_SOUNDS, SCRATCH_OF_ALL)
SCALES: tuple[tuple[float, tuple[Way, ...]], ...] = (
    (10_000, (ADAPTERS, BOTTLENECK, BOTTLENECK_OF_SOUNDS)),
    (1_000_000, (FINETUNING, FINETUNING_OF_SOUNDS)),
    (20_000_000, (LOCKED, *FROM_SCRATCH)),
    (float("inf"), FROM_SCRATCH),
)


def ways_for(pairs: int, modalities: frozenset[str]) -> list[Way]:
    """In order of preference. Small towers come last: there is never an objection to them."""
    ways = next(ways for most, ways in SCALES if pairs <= most)
    return [*(way for way in ways if way.modalities == modalities), SMALL]


def tuned(pairs: int, modalities: frozenset[str]) -> list[Way]:
    """The ways that start from the user's weights. Above a million pairs, those for a million."""
    (few, adapters), (_, whole), *_ = SCALES
    ways = adapters if pairs <= few else (*whole, *adapters)
    return [way for way in ways if way.modalities == modalities]
