"""What the gallery of a report shows of a modality that it has no player for."""

import io

import numpy as np
from PIL import Image

from tercet.data_pipelines.sample import Sample
from tercet.eval.report.gallery import exhibit


def test_the_report_draws_other_modalities_as_lines() -> None:
    """Of a rising and a falling line, the first lies low on the left and high on the right."""
    rising = np.linspace(0, 1, 40, dtype=np.float32)
    shown = exhibit(Sample("a", 0, 0, {"series": np.stack([rising, 1 - rising], axis=1)}), "series", 16000)
    assert shown.image is not None
    pixels = np.asarray(Image.open(io.BytesIO(shown.image)).convert("RGB")).astype(int)
    bright = pixels.sum(axis=2)
    corners = bright[-6:, :12].max(), bright[:6, -12:].max(), bright[:6, :12].max(), bright[-6:, -12:].max()
    assert corners[0] > corners[2], corners
    assert corners[1] > corners[3], corners
    assert min(corners) > bright[60:68, :8].max()
