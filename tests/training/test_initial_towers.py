"""The towers as they were before training, which a shortcut regresses between at the end of a run."""

from pathlib import Path
from unittest.mock import patch

import pytest

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.training.config import RunConfig
from tercet.training.evaluation.run import RunEvaluation
from tests.training.tiny import recipe


class Given:
    """Weights of another model of the same architecture."""

    source = "given"

    def __init__(self, config: RunConfig) -> None:
        self.weights = build_model(config.model, config.terms, seed=7).state_dict


@pytest.mark.parametrize("init", ["given", None])
def test_initial_towers_come_from_init_or_are_random(tmp_path: Path, init: str | None) -> None:
    config = RunConfig.model_validate(recipe(tmp_path, tmp_path, init=init))
    with patch("tercet.training.evaluation.run.pretrained", return_value=Given(config)):
        found = RunEvaluation(config, tmp_path, World())._initial(config)
    assert found is not None
    assert found.kind == ("pretrained" if init else "random")
    known = build_model(config.model, config.terms, seed=7 if init else config.seed).state_dict()
    assert all(value.equal(known[name]) for name, value in found.towers.state_dict().items())


def test_a_report_is_written_even_if_the_weights_of_init_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig.model_validate(recipe(tmp_path, tmp_path, init="gone"))
    with patch("tercet.training.evaluation.run.pretrained", side_effect=UserError("there is no model `gone`")):
        found = RunEvaluation(config, tmp_path, World())._initial(config)
    assert found is not None
    assert found.kind == "random"
    reason = "init cannot be read: there is no model `gone`"
    assert capsys.readouterr().err == f"tercet: `eval.shortcuts` uses random towers, because {reason}\n"
