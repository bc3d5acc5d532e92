"""Round trips of small models are exact: an export changes no weight, and the other library gives the same vectors."""

from tercet.benchmarks.eval.round_trips import round_trips


def test_every_round_trip_is_exact() -> None:
    found = {trip.format: trip for trip in round_trips(["safetensors", "open_clip", "transformers"])}
    assert found["safetensors"].theirs is None
    for trip in found.values():
        assert trip.exact_weights
        assert (trip.theirs or 0.0) < 1e-5
        assert trip.ours < 1e-5
