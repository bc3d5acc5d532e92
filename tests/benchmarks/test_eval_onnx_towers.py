"""The rows about graphs: exact in fp32, and close at smaller precisions."""

import pytest

from tercet.benchmarks.eval.onnx_towers import onnx_towers

LIMITS = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-2}


@pytest.mark.long
def test_graphs_of_all_towers_are_measured_at_all_precisions() -> None:
    found = onnx_towers()
    assert {(row.precision, row.modality) for row in found} == {
        (precision, modality) for precision in LIMITS for modality in ("image", "audio", "text")
    }
    for row in found:
        assert row.largest_difference < LIMITS[row.precision]
        assert 1 - row.lowest_cosine < LIMITS[row.precision]
