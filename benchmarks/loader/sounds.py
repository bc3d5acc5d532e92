"""From FLAC files of 10 s to batches of log-mel spectrograms with the settings of LAION-CLAP.

The peer is torchaudio with webdataset. Its workers process each sample: decode with soundfile (torchaudio no longer
decodes), average the channels, resample, transform. tercet resamples in its workers and transforms whole batches.
"""

from collections.abc import Generator
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median

import soundfile
import torch
import torchaudio
import webdataset
from torch import Tensor

from tercet.benchmarks.loader.pace import Side, pace, paces, ratio
from tercet.benchmarks.loader.shards import RATE, SECONDS, sound_shards
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import AudioIntake, Intake
from tercet.data_pipelines.shards.read import open_shards
from tercet.models.audio_features import build_front_end

TARGET, BATCH, WORKERS, COUNTED = 48_000, 32, 2, 12


def sound_rows(folder: Path, rounds: int) -> list[BenchRow]:
    paths = sound_shards(folder)
    measured = paces(
        {"ours": partial(pace, ours(paths), COUNTED), "peer": partial(pace, theirs(paths), COUNTED)}, rounds
    )
    mine, peer = measured["ours"], measured["peer"]
    sizes = {"seconds": SECONDS, "from": RATE, "to": TARGET, "batch": BATCH, "workers": WORKERS, "rounds": rounds}
    peer_name = "torchaudio + webdataset"
    return [BenchRow("sounds", median(mine), median(peer), peer_name, ratio(mine, peer), unit="samples/s", sizes=sizes)]


def ours(paths: list[str]) -> Side:
    shards, front_end = open_shards(paths), build_front_end("clap48k64")
    data = DataConfig.model_validate({"train": paths, "workers": WORKERS})
    intakes: dict[str, Intake] = {"audio": AudioIntake(TARGET, SECONDS)}

    def sizes() -> Generator[int, None, None]:
        for batch in Loader(data, {"train": shards}, intakes, BATCH, seed=0):
            field = batch.fields["audio"]
            yield len(front_end(field.values, field.lengths))

    return sizes


def theirs(paths: list[str]) -> Side:
    mel = torchaudio.transforms.MelSpectrogram(
        TARGET, n_fft=1024, hop_length=480, n_mels=64, f_min=50, f_max=14_000, norm="slaney", mel_scale="slaney"
    )
    decibels = torchaudio.transforms.AmplitudeToDB()

    def log_mel(data: bytes) -> Tensor:
        wave, rate = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
        mono = torchaudio.functional.resample(torch.from_numpy(wave.mean(1)), rate, TARGET)
        spectrum: Tensor = decibels(mel(mono[: SECONDS * TARGET]))
        return spectrum

    pipeline = webdataset.DataPipeline(
        webdataset.ResampledShards(paths),
        webdataset.tarfile_to_samples(),
        webdataset.shuffle(BATCH, initial=BATCH),
        webdataset.map_dict(flac=log_mel),
        webdataset.to_tuple("flac"),
        webdataset.batched(BATCH, partial=False),
    )

    def sizes() -> Generator[int, None, None]:
        for (spectra,) in webdataset.WebLoader(pipeline, batch_size=None, shuffle=False, num_workers=WORKERS):
            yield len(spectra)

    return sizes
