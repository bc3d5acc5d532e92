"""Which objects of a scene are found, by their place in the caption and their size, against naive loops."""

import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.eval.composition.multi_object import MultiObjectTask, multi_object
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.load_tasks import load_task
from tests.eval.composed import ITEMS, by_name, embed_text, meta, table, vector


def naive_objects(image: Tensor, task: MultiObjectTask) -> dict[str, list[tuple[int, float]]]:
    """For each metric, the place and the hit of every object of scenes of several different objects."""
    scenes = {}
    for n in range(ITEMS):
        names = [f"a {one['colour']} {one['shape']}".replace("a orange", "an orange") for one in meta(n)["objects"]]
        if len(set(names)) == len(names):
            scenes[n] = names
    hits: dict[str, list[tuple[int, float]]] = {"nearest": [], "nearest in text": []}
    for n, names in scenes.items():
        for anchor, metric in ((image[n], "nearest"), (vector(" and ".join(names)), "nearest in text")):
            scores = [float(anchor @ vector(name)) for name in names]
            hits[metric] += [(at, float(score == max(scores))) for at, score in enumerate(scores)]
    return hits


def test_objects_of_a_scene_are_found_by_place_and_size() -> None:
    data = table()
    comco = load_task("comco")
    assert isinstance(comco, MultiObjectTask)
    found = by_name(multi_object(data, embed_text, comco))
    expected = naive_objects(data.vectors["image"], comco)
    for metric, subject in (("nearest", "image"), ("nearest in text", "text")):
        for place in (0, 1, 2):
            own = [hit for at, hit in expected[metric] if at == place]
            result = found[f"{subject}, place {place + 1} nearest"]
            assert (result.value, result.n) == (pytest.approx(sum(own) / len(own)), len(own))
    assert found["image, place 3 nearest"].chance == pytest.approx(1 / 3)
    assert {"image, large matched", "image, small matched permuted", "text, large object found"} <= found.keys()
    assert "text, place 1 matched" not in found
    assert found["image, place 1 matched"].chance == 0.5


def test_a_model_that_reads_the_first_object_only_is_caught() -> None:
    """It finds the first object of every caption, and never sees another one exchanged; permuted, it is the reverse."""
    comco = load_task("comco")
    assert isinstance(comco, MultiObjectTask)
    samples = tuple(Sample(str(n), n, n, meta=meta(n)) for n in range(ITEMS) if len(meta(n)["objects"]) == 2)

    def first_only(texts: list[str]) -> Tensor:
        return torch.stack([vector(text.split(" and ")[0]) for text in texts])

    for sample in samples:
        for place, one in enumerate(sample.meta["objects"]):  # type: ignore[arg-type, var-annotated]
            one["size"] = 20.5 - place  # the area of its box
    first = [meta(int(sample.key))["objects"][0] for sample in samples]
    image = first_only([f"a {one['colour']} {one['shape']}".replace("a orange", "an orange") for one in first])
    data = EmbeddingTable({"image": image}, {"image": torch.arange(len(samples))}, samples)
    found = by_name(multi_object(data, first_only, comco))
    assert found["text, place 1 nearest"].value == found["image, place 1 matched"].value == 1.0
    assert found["text, place 2 nearest"].value == found["image, place 2 matched"].value == 0.0
    assert found["image, place 1 matched permuted"].value == 0.0
    assert (found["text, largest nearest"].value, found["text, smaller nearest"].value) == (1.0, 0.0)
