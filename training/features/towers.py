"""The stored features of locked towers: whether they are those of this run's towers, and how a run reads them.

The model of the run is whole: a checkpoint has the locked towers, and evaluation runs them on pictures and sounds. Only
training reads the features instead (LiT, Zhai et al. 2022, does so for its largest batches).
"""

from collections.abc import Mapping
from pathlib import Path

from tercet.data_pipelines.features import FeatureManifest
from tercet.data_pipelines.fields import FieldConfig, FieldSpec
from tercet.data_pipelines.sample import FeatureIntake, Intake
from tercet.errors import UserError, did_you_mean
from tercet.eval.embedding.fingerprint import tower_digest
from tercet.modality import modality_of
from tercet.models.config import ModelConfig
from tercet.models.multimodal import Multimodal


def training_intakes(model: Multimodal, config: ModelConfig) -> dict[str, Intake]:
    """What the loader gives each tower that a term trains: its input, or its stored features."""
    intakes: dict[str, Intake] = {name: intake for name, intake in model.intakes.items() if name in model.fields}
    for name in intakes:
        if folder := config.cached.get(name):
            check_tower(model, name, folder, f"model.{name}.cached")
            intakes[name] = FeatureIntake(name, folder, model.tower(name).width)
    return intakes


def stored_fields(model: Multimodal, configs: Mapping[str, FieldConfig]) -> dict[str, FieldSpec]:
    """The fields of stored vectors that terms compare. The loader fills those that have `features`, and soft retrieval
    the others."""
    specs = {}
    for name, config in configs.items():
        if config.stored and name in model.fields:
            width = model.tower(modality_of(name)).width
            specs[name] = FieldSpec(name, FeatureIntake(config.source, config.features or "", width, name))
    return specs


def check_tower(model: Multimodal, name: str, folder: str, key: str) -> None:
    """Raises `UserError` if a folder does not have the outputs of this tower. `key` names the folder in the recipe."""
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
