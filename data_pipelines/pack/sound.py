"""A sound as it goes into a shard: the file's own bytes, or a FLAC, shorter or at another rate. Imports no torch."""

from io import BytesIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import LEAST_HERTZ, MOST_CHANNELS, MOST_HERTZ, MOST_SECONDS, MOST_VALUES
from tercet.data_pipelines.decode.containers import complete, readable
from tercet.data_pipelines.decode.resample import resampler
from tercet.data_pipelines.pack.config import PackConfig

EXTENSIONS = {"WAV": "wav", "WAVEX": "wav", "RF64": "wav", "FLAC": "flac", "OGG": "ogg", "MPEG": "mp3"}
SIXTEEN_BITS = ("PCM_16", "PCM_U8", "PCM_S8", "ULAW", "ALAW", "VORBIS", "OPUS", "MPEG_LAYER_III")
FRAMES_AT_ONCE = 2**16

Wave = NDArray[np.float32]  # [T, C]


def pack_sound(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    """Extension and bytes. Every sound is decoded as far as it is kept, for nothing else shows that it is whole."""
    with _opened(data) as sound:
        rate = config.rate or sound.samplerate
        kept = sound.frames if config.seconds is None else round(config.seconds * sound.samplerate)
        try:
            if rate == sound.samplerate and kept >= sound.frames:
                _check_frames(sound)
                return EXTENSIONS[sound.format], data
            wave = _read(sound, min(kept, sound.frames))
        except soundfile.SoundFileError as error:
            raise BadSample("audio: truncated or damaged") from error
        subtype = "PCM_16" if sound.subtype in SIXTEEN_BITS else "PCM_24"
        return "flac", _flac(_resampled(wave, sound.samplerate, rate), rate, subtype)


def _opened(data: bytes) -> soundfile.SoundFile:
    if not readable(data):
        raise BadSample("audio: not a WAV, FLAC, OGG or MP3")
    if not complete(data):
        raise BadSample("audio: truncated or damaged")
    try:
        sound = soundfile.SoundFile(BytesIO(data))
    except soundfile.SoundFileError as error:
        raise BadSample("audio: unreadable") from error
    if sound.frames < 1:
        raise BadSample("audio: empty")
    if (
        sound.channels > MOST_CHANNELS
        or not LEAST_HERTZ <= sound.samplerate <= MOST_HERTZ
        or sound.frames > MOST_SECONDS * sound.samplerate
    ):
        raise BadSample("audio: over the caps")
    return sound


def _check_frames(sound: soundfile.SoundFile) -> None:
    """All of them in turn, so that a long sound takes no more memory than a short one."""
    while sound.tell() < sound.frames:
        _read(sound, min(FRAMES_AT_ONCE, sound.frames - sound.tell()))


def _read(sound: soundfile.SoundFile, frames: int) -> Wave:
    if frames * sound.channels > MOST_VALUES:
        raise BadSample("audio: over the caps")
    wave: Wave = sound.read(frames, dtype="float32", always_2d=True)
    if len(wave) < frames:
        raise BadSample("audio: truncated or damaged")
    if not np.isfinite(wave).all():
        raise BadSample("audio: not finite")
    return wave


def _resampled(wave: Wave, rate: int, target: int) -> Wave:
    """Each channel by itself."""
    resample = resampler(rate, target)
    frames = resample.length(len(wave))
    return np.stack([resample(np.ascontiguousarray(channel), 0, 0, frames) for channel in wave.T], axis=1)


def _flac(wave: Wave, rate: int, subtype: str) -> bytes:
    file = BytesIO()
    soundfile.write(file, wave, rate, format="FLAC", subtype=subtype)
    return file.getvalue()
