"""LiT beside training both towers from scratch: with a good image tower that is locked, half of the steps are enough.

The good tower is that of a strong baseline on other scenes. It is trained once, and kept in the cache. LiT trains on
its stored features with the text tower, from scratch, and both projections; pictures are not augmented then. A step has
as many samples as one of the baseline.
"""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file, save_file

from tercet.api.features import embed_features
from tercet.benchmarks.claims.experiment import built_in
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RECALL, RUNS, SECONDS, WORLD, Strong, measured
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.models.interop.folder import WEIGHTS, export_folder
from tercet.training.pretrained import load_model
from tercet.training.recipe import load_recipe

OTHER = {**WORLD, "seed": 5}
TOWER_SEED = 1_000
PLAIN: dict[str, Any] = {"crop": None, "augment": {"image": {"jitter": 0.0, "blur": 0.0}}}


@dataclass(frozen=True)
class Lit:
    """`steps`: of the text tower. `tower_steps`: of the baseline that the image tower is from."""

    steps: int = 200
    tower_steps: int = 800

    def run(self, seed: int) -> dict[str, float]:
        data = built_in.generated(WorldConfig.model_validate(WORLD))
        tower = good_tower(self.tower_steps)
        with TemporaryDirectory() as folder:
            features, out = Path(folder) / "features", Path(folder) / "run"
            embed_features(tower, {"source": str(data / "train"), "fields": ["image"]}, features)
            locked = {"init": str(tower), "model": {"image": {"unlocked": 0, "cached": str(features)}}}
            seconds = Strong(locked, steps=self.steps).train(out, data, seed, reads=PLAIN)
            return {**measured(out, data), SECONDS: seconds}


def good_tower(steps: int) -> Path:
    """An exported folder with the weights of the image tower alone, so that a run takes no others from it."""
    data, baseline = built_in.generated(WorldConfig.model_validate(OTHER)), Strong(steps=steps)
    known = blake2b(f"{baseline} {data}".encode(), digest_size=8).hexdigest()
    folder = cache_folder() / "claims" / f"tower-{known}"
    if not (folder / WEIGHTS).is_file():
        with TemporaryDirectory() as run:
            baseline.train(Path(run), data, TOWER_SEED)
            export_folder(load_model(run), load_recipe(run), folder)
        weights = load_file(folder / WEIGHTS)
        save_file({name: value for name, value in weights.items() if ".image." in name}, folder / WEIGHTS)
    return folder


CLAIM = Claim(
    says="With a good image tower that is locked, 200 steps bring a higher R@1 than 400 steps from scratch.",
    source="Zhai et al. 2022",
    measure=RECALL,
    arms={
        "LiT, 200 steps": Lit(),
        "from scratch, 400 steps": Strong(steps=400),
        "from scratch, 200 steps": Strong(steps=200),
        "LiT, 400 steps": Lit(steps=400),
        "baseline": Strong(),
    },
    runs=RUNS,
)
