"""The stored features of locked towers: whether they are those of this run's towers, and how a run reads them.

The model of the run is whole: a checkpoint has the locked towers, and evaluation runs them on pictures and sounds. Only
training reads the features instead (LiT, Zhai et al. 2022, does so for its largest batches).
"""

from pathlib import Path

from tercet.data_pipelines.features import FeatureManifest
from tercet.data_pipelines.sample import FeatureIntake, Intake
from tercet.errors import UserError, did_you_mean
from tercet.eval.fingerprint import tower_digest
from tercet.models.config import ModelConfig
from tercet.models.multimodal import Multimodal


def training_intakes(model: Multimodal, config: ModelConfig) -> dict[str, Intake]:
    """What the loader gives each tower that a term trains: its input, or its stored features."""
    intakes: dict[str, Intake] = {name: intake for name, intake in model.intakes.items() if name in model.fields}
    for name in intakes:
        if folder := config.cached.get(name):
            check_tower(model, name, folder)
            intakes[name] = FeatureIntake(name, folder, model.tower(name).width)
    return intakes


def check_tower(model: Multimodal, name: str, folder: str) -> None:
    """Raises `UserError` if a folder does not have the outputs of this tower."""
    key = f"model.{name}.cached"
    manifest = FeatureManifest.read(Path(folder), key)
    if name not in manifest.towers:
        raise UserError(f"{key}: {folder} has no features of {name}; {did_you_mean(name, manifest.towers)}")
    if manifest.towers[name].digest != tower_digest(model.tower(name)):
        raise UserError(
            f"{key}: {folder} has the outputs of another {name} tower, that of {manifest.model}; embed the data with "
            f"the tower of this run: tercet embed RECIPE --format features --out NEW_FOLDER"
        )
    if name in model.tokens:
        raise UserError(
            f"{key}: a term compares the tokens of `{name}`, and {folder} has one vector for each sample; remove "
            "`cached`, or choose an objective that compares vectors, such as infonce"
        )
