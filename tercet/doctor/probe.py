"""Run by the doctor in a process of its own: imports one package after another and prints a JSON line after each.

A package that takes the process down with it is the one after the last line.
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
    except Exception as error:  # whatever a broken binary raises is what the doctor is after
        return {"name": name, "error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"name": name}


def devices() -> dict[str, object]:
    """What torch sees; asked last, since a broken driver may hang or die here."""
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
    # Packages print while they load; the lines of the probe stay apart from theirs.
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
