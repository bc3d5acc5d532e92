"""The page beside the graphs: how to make the input of each, in words and in Python."""

from typing import Any

USAGE = "USAGE.md"
TITLE = """# Encoders as ONNX graphs

Each graph turns a batch into unit vectors of one space with {dim} dimensions: the cosine of two vectors is their
product. `preprocess.json` has the numbers of this page for programs. tercet loads the folder like any model:
`tercet eval FOLDER --data D`.

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{first}")
```
"""
IMAGE = """
## Pictures: image.onnx

1. Decode to {channels}, and turn the picture upright as its EXIF data say.
2. {resize}
3. Give the bytes as `pixels`, uint8 `[n, {count}, {height}, {width}]`. The graph divides by 255 and normalises.

```python
vectors, = session.run(None, {{"pixels": np.stack(pictures).transpose(0, 3, 1, 2)}})
```
"""
SHORTEST = (
    "Crop the centre to the shape {width} × {height}, and resize it to {width} × {height} pixels ({interpolation})."
)
SQUASH = "Resize to {width} × {height} pixels without a crop ({interpolation})."
AUDIO = """
## Sounds: audio.onnx

1. Decode, average the channels, and resample to {rate:,} Hz.
2. Give the samples, from -1 to 1, as `wave`, float32 `[n, samples]`. Fill shorter rows with 0.
3. Give the number of samples of each clip as `lengths`, int64 `[n]`.

Clips may have any length. The graph covers each with windows of {seconds:g} s and averages their vectors. The weight of
a window is the part of the clip that no earlier window covers.

```python
vectors, = session.run(None, {{"wave": wave, "lengths": np.array([wave.shape[1]])}})
```
"""
TEXT = """
## Texts: text.onnx

{how}

Give the ids as `tokens`, int64 `[n, {context}]`.
"""
WORDS = """```python
import re, zlib
words = re.findall(r"\\w+|[^\\w\\s]", text.lower())[: {context} - 1]
ids = [1, *(2 + zlib.crc32(word.encode()) for word in words)]
tokens = [ids + [0] * ({context} - len(ids))]
```"""
OPEN_CLIP = """```python
import open_clip
tokens = open_clip.get_tokenizer("{name}", context_length={context})([text]).numpy()
```"""
TRANSFORMERS = """```python
from transformers import AutoTokenizer
ids = AutoTokenizer.from_pretrained("{folder}")(text, truncation=True, max_length={context})["input_ids"]
tokens = [ids + [{padding}] * ({context} - len(ids))]  # {padding} tells the graph where a text ends
```"""
OTHER = "The tokenizer, {kind}, is that of a plugin."
HOW = {"words": WORDS, "open_clip": OPEN_CLIP, "transformers": TRANSFORMERS}
MEASURED = """
## How exact

Precision {precision}, beside the model itself in fp32, on a few generated inputs.
`tercet compare MODEL FOLDER --data D` measures the loss on your data.

| graph | largest difference | lowest cosine | mean cosine |
|---|---|---|---|
"""


def usage(about: dict[str, Any]) -> str:
    towers = about["towers"]
    parts = [TITLE.format(dim=about["dim"], first=next(iter(towers.values()))["file"])]
    parts += [_section(facts) for facts in towers.values()]
    rows = [
        f"| {facts['file']} | {found['largest_difference']:.2g} | {found['lowest_cosine']:.7f} | "
        f"{found['mean_cosine']:.7f} |\n"
        for facts in towers.values()
        if (found := facts["measured"])
    ]
    return "".join([*parts, MEASURED.format(**about), *rows])


def _section(facts: dict[str, Any]) -> str:
    if "size" in facts:
        height, width = facts["size"]
        words = (SQUASH if facts["resize"] == "squash" else SHORTEST).format(
            height=height, width=width, interpolation=facts["interpolation"]
        )
        return IMAGE.format(
            channels=facts["channels"], count=len(facts["channels"]), resize=words, height=height, width=width
        )
    if "rate" in facts:
        return AUDIO.format(**facts)
    if "context" in facts:
        found, context = facts["tokenizer"], facts["context"]
        return TEXT.format(how=HOW.get(found["kind"], OTHER).format(**found, context=context), context=context)
    return f"\n## {facts['file']}\n\nGive `values`, {facts['dtype']} {['n', *facts['shape']]}.\n"
