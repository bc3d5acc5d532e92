"""The base of audio towers from transformers: they have their own front end and few options."""

from torch import nn

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.audio import AudioEncoder, FrontEnd
from tercet.models.encoders.hf.tower import HfTower, check_options


class HfAudio(HfTower, AudioEncoder):
    """An audio tower with the front end of its folder. The only setting is `seconds`."""

    def __init__(self, name: str, config: TowerConfig, front_end: FrontEnd, longest: float | None = None) -> None:
        _check(name, config, longest)
        super().__init__(config, front_end)

    def stack(self) -> nn.Module:
        stack: nn.Module = self.model.layers
        return stack


def _check(name: str, config: TowerConfig, longest: float | None) -> None:
    if config.features != TowerConfig.model_fields["features"].default:
        raise UserError(f"model.audio.features: `hf:{name}` has its own front end; remove `{config.features}`")
    check_options("audio", name, config.options)
    if longest is not None and config.seconds > longest:
        raise UserError(
            f"model.audio.seconds is {config.seconds:g}, but `hf:{name}` reads at most {longest:g} s at a time; "
            f"set it to {longest:g} or less (evaluation tiles longer clips)"
        )
