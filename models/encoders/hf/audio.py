"""The base of audio towers from transformers: they have their own front end and few options."""

from torch import nn

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.audio import AudioEncoder, FrontEnd
from tercet.models.encoders.hf.tower import HfTower, check_options


class HfAudio(HfTower, AudioEncoder):
    """An audio tower with its own front end. The only setting is `seconds`, which is at most `longest`."""

    def __init__(
        self, config: TowerConfig, front_end: FrontEnd, longest: float | None = None, options: tuple[str, ...] = ()
    ) -> None:
        _check(config, longest, options)
        super().__init__(config, front_end)

    def stack(self) -> nn.Module:
        stack: nn.Module = self.model.layers
        return stack


def _check(config: TowerConfig, longest: float | None, options: tuple[str, ...]) -> None:
    name = config.encoder
    if config.features != TowerConfig.model_fields["features"].default:
        raise UserError(f"model.audio.features: `{name}` has its own front end; remove `{config.features}`")
    check_options("audio", name, config.options, options)
    if longest is not None and config.seconds > longest:
        raise UserError(
            f"model.audio.seconds is {config.seconds:g}, but `{name}` reads at most {longest:g} s at a time; "
            f"set it to {longest:g} or less (evaluation tiles longer clips)"
        )
