"""The audio tower for each model type of transformers."""

from collections.abc import Callable
from typing import Any

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.hf.audio import HfAudio
from tercet.models.encoders.hf.clap import clap_audio
from tercet.models.encoders.hf.folder import read_config
from tercet.models.encoders.hf.parts import architecture, check_reads
from tercet.models.encoders.hf.waves import WaveAudio
from tercet.models.encoders.hf.windows import AstAudio, WhisperAudio

TOWERS: dict[str, Callable[[str, TowerConfig, Any], HfAudio]] = {
    "audio-spectrogram-transformer": AstAudio,
    "whisper": WhisperAudio,
    "clap": clap_audio,
    "clap_audio_model": clap_audio,
    "hubert": WaveAudio,
    "wav2vec2": WaveAudio,
    "wavlm": WaveAudio,
}


def audio_tower(name: str, config: TowerConfig) -> HfAudio:
    found = read_config("model.audio.encoder", name)
    check_reads("audio", name, found)
    if found.model_type not in TOWERS:
        raise UserError(
            f"model.audio.encoder: `hf:{name}` is a {architecture(found)}, which is not supported; "
            f"choose a model of type {', '.join(TOWERS)}"
        )
    return TOWERS[found.model_type](name, config, found)
