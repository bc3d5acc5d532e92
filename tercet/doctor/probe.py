"""Imports one package after another and prints a line of JSON after each. The doctor runs this in another process.

If the process crashes, the package after the last line is the cause.
"""

import importlib
import json
import os
import sys
import warnings

PROBED = ("torch", "torchvision", "torchaudio", "soundfile", "PIL", "webdataset", "timm", "open_clip", "deepspeed")


def attempt(name: str) -> dict[str, str]:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken binary may raise anything
        return {"name": name, "error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"name": name}


def devices() -> dict[str, object]:
    """The devices that torch sees. Comes last, because a broken driver may hang or crash here."""
    import torch

    cuda = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "name": "devices",
        "built_for": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "cuda": [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in cuda],
        "gloo": torch.distributed.is_gloo_available(),
        "nccl": torch.distributed.is_nccl_available(),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    # Packages print while they load, so the probe's own lines go to a descriptor of their own.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    broken = set()
    for name in PROBED:
        outcome = attempt(name)
        broken |= {name} if "error" in outcome else set()
        print(json.dumps(outcome), file=lines)
    if "torch" not in broken:
        print(json.dumps(devices()), file=lines)


if __name__ == "__main__":
    main()
