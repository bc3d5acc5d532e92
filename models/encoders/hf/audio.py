"""What the towers of transformers for sounds share: a front end of their own, and little to set."""

from torch import nn

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.audio import AudioEncoder, FrontEnd
from tercet.models.encoders.hf.tower import HfTower, check_options


class HfAudio(HfTower, AudioEncoder):
    """A tower that hears by the folder's own front end; of what may be set, `seconds` alone."""

    def __init__(self, name: str, config: TowerConfig, front_end: FrontEnd, longest: float | None = None) -> None:
        _check(name, config, longest)
        super().__init__(config, front_end)

    def stack(self) -> nn.Module:
        stack: nn.Module = self.model.layers
        return stack


def _check(name: str, config: TowerConfig, longest: float | None) -> None:
    if config.features != TowerConfig.model_fields["features"].default:
        raise UserError(f"model.audio.features: `hf:{name}` brings its own front end; leave `{config.features}` out")
    check_options("audio", name, config.options)
    if longest is not None and config.seconds > longest:
        raise UserError(
            f"model.audio.seconds: `hf:{name}` hears {longest:g} s at once, {config.seconds:g} s are asked for; "
            f"set it to {longest:g} or less, longer clips are tiled at evaluation"
        )
