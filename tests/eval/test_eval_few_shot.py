"""Few-shot classification against loops, and the transport plan against a search over all assignments."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from open_clip import SIMPLE_IMAGENET_TEMPLATES
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.measure import Measure
from tercet.eval.probes import few_shot_methods
from tercet.eval.probes.few_shot import Episode, FewShotTask, classes_of, episodes
from tercet.eval.probes.few_shot_methods import Method, Shown, clip_adapter, moved, scores, settings, tip_adapter
from tercet.eval.probes.labelled import labelled
from tercet.eval.statistics.intervals import EpisodeShare, Share
from tercet.eval.transport import transport_plan
from tercet.eval.trust.null_models import reordered
from tercet.eval.trust.self_test import THOROUGH, self_test

DIM = 12
FEW_DRAWS = replace(THOROUGH, draws=(16, 40))
METHODS = ("prototypes", "transport", "tip_adapter", "clip_adapter")
RUNS, LEAST = 200, 0.9  # where 95 % are covered, fewer than 90 % are counted in one case of a thousand


def task(**options: object) -> FewShotTask:
    usual = {"kind": "few_shot", "name": "few", "title": "Few-shot", "ways": 4, "episodes": 60, "queries": 6}
    return FewShotTask.model_validate({**usual, **options})


def made(spread: float, items: int = 120, classes: int = 6) -> EmbeddingTable:
    """Pictures around the centres of their classes. Every fifth belongs to the group of the picture before it."""
    random = torch.Generator().manual_seed(3)
    centre = torch.randn(classes, DIM, generator=random)[torch.arange(items) % classes]
    rows = normalize(centre + spread * torch.randn(items, DIM, generator=random), dim=1)
    samples = tuple(
        Sample(
            f"s{item}", item, item - classes * (item % 5 == 4 and item >= classes), meta={"label": f"c{item % classes}"}
        )
        for item in range(items)
    )
    return EmbeddingTable({"image": rows}, {"image": torch.arange(items)}, samples)


def prompts(texts: list[str]) -> Tensor:
    """Prompts that are near the centres of their classes, `c0` to `c5`, of `made`."""
    random = torch.Generator().manual_seed(3)
    centre = torch.randn(6, DIM, generator=random)
    wrong = torch.randn(6, DIM, generator=torch.Generator().manual_seed(9))
    return torch.stack([(centre + wrong)[int(text.rstrip(".")[-1])] for text in texts])


def measured(table: EmbeddingTable, one: FewShotTask) -> Measure:
    (found,) = one.measure(table, prompts, EvalConfig())
    return found


def value(table: EmbeddingTable, one: FewShotTask) -> float:
    return measured(table, one).statistics["acc1"].value


def drawn(table: EmbeddingTable, one: FewShotTask) -> Iterator[Episode]:
    """The episodes, in rows of the table, which are in the order of the ids."""
    data = labelled(table, "image", one)
    assert one.ways is not None
    rows = classes_of(data, torch.ones(len(data.samples), dtype=torch.bool))
    return episodes(rows, one.ways, one.shots[0], one.queries, one.episodes)


@pytest.mark.parametrize("shots", [1, 3])
def test_equals_a_loop_over_episodes_and_queries(shots: int) -> None:
    table, one = made(1.0), task(shots=shots)
    rows = table.vectors["image"].double()
    hits = []
    for episode in drawn(table, one):
        prototypes = [sum(rows[at] for at in places) for places in episode.example_WS.tolist()]
        for at, right in zip(episode.query_Q.tolist(), episode.class_Q.tolist(), strict=True):
            cosines = [float(rows[at] @ (centre / centre.norm())) for centre in prototypes]  # type: ignore[union-attr]
            hits.append(cosines.index(max(cosines)) == right)
    found = measured(table, one)
    assert found.statistics["acc1"].value == pytest.approx(sum(hits) / len(hits))
    assert len(found.items) == len(hits)
    assert len(torch.unique(found.groups)) == 60
    assert found.chance == {"acc1": 0.25}


@pytest.mark.parametrize("spread", [0.45, 1.0])  # accuracies of about 0.98 and 0.7
def test_the_intervals_of_few_episodes_hold_the_accuracy_of_many(spread: float) -> None:
    """Also those of differences between two methods; and they are much narrower than if a group were one query."""
    table, one = made(spread), task(ways=5, queries=15, episodes=300)
    found, other = (measured(table, one.model_copy(update={"method": name})) for name in METHODS[:2])
    first, second = (each.statistics["acc1"] for each in (found, other))
    places = [(found.groups == number).nonzero().flatten() for number in range(300)]
    random = torch.Generator().manual_seed(0)
    for count in (2, 5, 10, 20):
        held, widths = [], []
        for _ in range(RUNS):
            drawn = [places[number] for number in torch.randint(0, 300, (count,), generator=random).tolist()]
            group_Q = torch.arange(count).repeat_interleave(torch.tensor([len(episode) for episode in drawn]))
            here, there = (EpisodeShare(each.values_Q[torch.cat(drawn)]) for each in (first, second))
            of_value, apart = here.estimate(group_Q), there.difference(here, group_Q)
            held.append((
                of_value.low <= first.value <= of_value.high, apart.low <= second.value - first.value <= apart.high
            ))  # fmt: skip
            usual = Share(here.values_Q).estimate(group_Q)
            widths.append((of_value.high - of_value.low) / (usual.high - usual.low))
        assert min(sum(column) / RUNS for column in zip(*held, strict=True)) >= LEAST, count
        assert sum(widths) / RUNS < (0.8 if count == 2 else 0.45)


def test_one_episode_has_the_widest_interval_and_perfect_ones_have_a_narrow_one() -> None:
    hits, episode = torch.ones(300), torch.arange(4).repeat_interleave(75)
    assert EpisodeShare(hits).estimate(torch.zeros(300)) == (1, 0, 1)
    assert EpisodeShare(hits).difference(EpisodeShare(1 - hits), torch.zeros(300)) == (1, -math.inf, math.inf)
    found = EpisodeShare(hits).estimate(episode)
    assert 0.9 < found.low < 1 == found.high
    same = EpisodeShare(hits).difference(EpisodeShare(hits), episode)
    assert same.value == 0
    assert 0 < same.high == -same.low < 0.05


def test_episodes_never_share_a_group_between_examples_and_queries() -> None:
    table = made(1.0)
    seen: set[int] = set()
    for episode in drawn(table, task(shots=2)):
        examples, queries = episode.example_WS.flatten().tolist(), episode.query_Q.tolist()
        groups = [table.samples[at].group for at in examples + queries]
        assert len(groups) == len(set(groups))
        labels = [table.samples[at].meta["label"] for at in examples]
        assert len(set(labels)) == 4
        assert [table.samples[at].meta["label"] for at in queries] == [labels[2 * k] for k in episode.class_Q.tolist()]
        assert episode.class_Q.bincount().tolist() == [6] * 4
        seen |= {*queries}
    assert len(seen) > 80


def test_far_classes_are_told_apart_and_random_vectors_are_not() -> None:
    assert value(made(0.01), task()) == 1
    assert value(made(1e6, items=300), task(episodes=200)) == pytest.approx(0.25, abs=0.05)


def test_alignment_makes_up_for_unlucky_examples() -> None:
    """With one example each, the queries say more about where the classes are."""
    table, one = made(0.6), task(episodes=200, queries=12)
    assert value(table, one.model_copy(update={"method": "transport"})) > value(table, one) + 0.03


def test_the_order_of_the_table_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.eval.probes.few_shot.VALIDATED", 2)
    table = made(1.0)
    for method in METHODS:
        one = task(method=method, episodes=5, steps=3)
        assert value(reordered(table, 1), one) == pytest.approx(value(table, one))


def test_null_models_score_what_they_must() -> None:
    checks = self_test(made(1.0), [task(episodes=3), task(name="tip", method="tip_adapter", episodes=3)], FEW_DRAWS)
    assert {check.model for check in checks} == {"constant", "random", "shuffled", "reordered", "informed"}
    assert [check for check in checks if not check.holds] == []


def test_classes_come_from_meta_and_items_named_like_their_class_count_separately() -> None:
    meta = {"objects": [{"shape": "ring"}]}
    one = task(label="objects[0].shape", count={"objects": 1})
    assert one.label_of(Sample("a", 0, 0, meta=meta)) == "ring"
    assert one.label_of(Sample("a", 0, 0, meta={"objects": [{"shape": "ring"}, {"shape": "star"}]})) is None
    assert one.label_of(Sample("a", 0, 0)) is None
    samples = tuple(Sample(f"{n}", n, n % 2, meta={"class": "a b", "group": "A_b"}) for n in range(6))
    table = EmbeddingTable({"image": torch.eye(6)}, {"image": torch.arange(6)}, samples)
    rows = classes_of(labelled(table, "image", task()), torch.ones(6, dtype=torch.bool))
    assert {label: len(places) for label, places in rows.items()} == {"a b": 6}


def test_too_few_classes_are_an_error() -> None:
    with pytest.raises(EvalError, match="task `few` needs 7 classes with 2 samples or more that have image, and the"):
        value(made(1.0), task(ways=7))


def test_the_plan_has_uniform_margins_and_equals_plain_iterations() -> None:
    cost = torch.rand(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = transport_plan(cost, 0.1, 500)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((4,), 1 / 4, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(dim=0), torch.full((7,), 1 / 7, dtype=torch.float64))
    kernel, row = (-cost / 0.1).exp(), torch.ones(4, dtype=torch.float64)
    for _ in range(500):
        column = 1 / 7 / (kernel.T @ row)
        row = 1 / 4 / (kernel @ column)
    torch.testing.assert_close(plan, row[:, None] * kernel * column)


def test_the_transport_is_that_of_beclr() -> None:
    """Its rule: squared distances relative to the largest, Sinkhorn's iterations until they rest, and then the mean of
    the queries by the plan, whose rows are normalised."""
    random = np.random.default_rng(2)
    rows = random.normal(size=(25, DIM)) + 1.5 * random.normal(size=DIM)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    prototypes, queries = rows[:5], rows[5:]
    cost = ((prototypes[:, None] - queries) ** 2).sum(axis=2)
    kernel = np.exp(-cost / cost.max() / 0.05)
    row, column = np.ones(5), np.ones(20)
    for _ in range(1000):
        row = 1 / 5 / (kernel @ column)
        column = 1 / 20 / (kernel.T @ row)
    plan = row[:, None] * kernel * column
    expected = plan / plan.sum(axis=1, keepdims=True) @ queries
    found = moved(torch.from_numpy(prototypes), torch.from_numpy(queries), 0.05)
    torch.testing.assert_close(found, normalize(torch.from_numpy(expected), dim=1), atol=1e-3, rtol=0)
    same = torch.from_numpy(rows[:1]).expand(4, DIM)
    torch.testing.assert_close(moved(same[:2], same, 0.05), same[:2])


def test_with_little_entropy_the_plan_is_the_best_assignment() -> None:
    cost = torch.rand(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = min(permutations(range(5)), key=lambda order: sum(float(cost[i, j]) for i, j in enumerate(order)))
    assert tuple(transport_plan(cost, 1e-3, 2000).argmax(dim=1).tolist()) == best


def episode_of() -> tuple[Shown, Tensor]:
    """Three classes, four examples of each, nine queries, and prompts that are off."""
    random = torch.Generator().manual_seed(5)

    def near(centre: Tensor) -> Tensor:
        return normalize(centre + torch.randn(centre.shape, generator=random, dtype=torch.float64), dim=-1)

    centre = torch.randn(3, DIM, generator=random, dtype=torch.float64)
    shown = Shown(near(centre[:, None].expand(3, 4, DIM)), near(centre.repeat(3, 1)), near(centre))
    return shown, torch.arange(3).repeat(3)


def test_tip_adapter_equals_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot_methods, "TILE", 4)  # of nine queries
    shown, _ = episode_of()
    assert shown.text_WD is not None
    found = tip_adapter(shown, alpha=3.0, beta=5.5)
    for query, row in zip(shown.query_QD, found, strict=True):
        for place, score in enumerate(row.tolist()):
            cached = sum(math.exp(-5.5 * (1 - float(query @ key))) for key in shown.example_WSD[place])
            assert score == pytest.approx(100 * float(query @ shown.text_WD[place]) + 3.0 * cached)


@pytest.mark.parametrize("method", ["tip_adapter", "clip_adapter"])
def test_adapters_are_plain_prompts_at_zero_and_learn_from_the_examples_otherwise(method: Method) -> None:
    shown, _ = episode_of()
    assert shown.text_WD is not None
    first, *others = settings(method, {})
    torch.testing.assert_close(scores(method, shown, first, 0.05), 100 * shown.query_QD @ shown.text_WD.T)
    own = shown._replace(query_QD=shown.example_WSD.flatten(0, 1))
    label = torch.arange(3).repeat_interleave(4)
    plain = torch.nn.functional.cross_entropy(scores(method, own, first, 0.05), label)
    best = min(float(torch.nn.functional.cross_entropy(scores(method, own, one, 0.05), label)) for one in others)
    assert best < 0.5 * float(plain)


def test_clip_adapter_gives_the_same_twice_and_touches_no_global_random_numbers() -> None:
    shown, _ = episode_of()
    state = torch.get_rng_state()
    assert clip_adapter(shown, 0.2).equal(clip_adapter(shown, 0.2))
    assert torch.get_rng_state().equal(state)


def test_adapters_beat_bad_prompts_and_name_what_they_chose() -> None:
    table = made(0.5, items=240)
    text = prompts([f"c{n}" for n in range(6)])
    cosine = table.vectors["image"] @ normalize(text, dim=1).T
    plain = float((cosine.argmax(dim=1) == torch.arange(240) % 6).double().mean())
    one = task(method="tip_adapter", ways=None, shots=[1, 8], episodes=10)
    few, many = one.measure(table, prompts, EvalConfig())
    assert (few.subject, many.subject) == ("class from image, 1 shot", "class from image, 8 shots")
    assert many.statistics["acc1"].value > max(few.statistics["acc1"].value, plain)
    assert many.notes["ways"] == 6
    assert (few.results()[0].metadata["episodes"], "groups" in few.results()[0].metadata) == (10, False)
    assert str(many.notes["chosen"]).startswith("α = ")


def test_one_setting_needs_no_validation_part() -> None:
    """As Treff-Adapter, which has α = 1 and β = 5.5: all samples may be queries."""
    table = made(1.0)
    rows, text = table.vectors["image"].double(), normalize(prompts([f"c{n}" for n in range(6)]).double(), dim=1)
    one, hits = task(method="tip_adapter", alpha=1, beta=5.5, shots=[2], episodes=20), []
    for episode in drawn(table, one):
        classes = [int(str(table.samples[at].meta["label"])[1:]) for at in episode.example_WS[:, 0].tolist()]
        for at, right in zip(episode.query_Q.tolist(), episode.class_Q.tolist(), strict=True):
            scored = [
                100 * float(rows[at] @ text[own]) + sum(math.exp(-5.5 * (1 - float(rows[at] @ rows[n]))) for n in near)
                for own, near in zip(classes, episode.example_WS.tolist(), strict=True)
            ]
            hits.append(scored.index(max(scored)) == right)
    found = measured(table, one)
    assert found.statistics["acc1"].value == pytest.approx(sum(hits) / len(hits))
    assert found.notes["chosen"] == "α = 1, β = 5.5"
    several = measured(table, task(method="tip_adapter", alpha=[0.5, 2], beta=3, episodes=5))
    assert several.notes["chosen"] in ("α = 0.5, β = 3", "α = 2, β = 3")
    with pytest.raises(
        ValidationError, match="`beta` is a setting of another method than `clip_adapter`; leave it out"
    ):
        task(method="clip_adapter", beta=[1.0])


def test_adapters_take_published_prompts_word_for_word() -> None:
    one = task(
        method="tip_adapter", alpha=1, beta=1, episodes=2, articles=False, classes={"c0": "owl"},
        templates="open_clip:SIMPLE_IMAGENET_TEMPLATES",
    )  # fmt: skip
    asked: list[str] = []

    def embed_text(texts: list[str]) -> Tensor:
        asked.extend(texts)
        return torch.randn(len(texts), DIM, generator=torch.Generator().manual_seed(0))

    one.measure(made(1.0), embed_text, EvalConfig())
    assert asked[:7] == [template("owl") for template in SIMPLE_IMAGENET_TEMPLATES]
    assert (asked[2], len(asked)) == ("a origami owl.", 6 * 7)


def test_validation_items_are_no_queries_of_a_test_episode() -> None:
    table = made(1.0)
    one = task(method="tip_adapter", episodes=30)
    found = measured(table, one)
    held = {n for n, sample in enumerate(table.samples)} - set(found.items.tolist())
    assert len(held) >= 120 // 5
    few = made(1.0, items=7, classes=2)  # three groups of `c0` and two of `c1`, of which the validation part has none
    samples = tuple(Sample(s.key, s.id, s.group) if s.id == 5 else s for s in few.samples)
    with pytest.raises(EvalError, match="too few samples to choose the settings of `tip_adapter`"):
        value(EmbeddingTable(few.vectors, few.items, samples), task(method="tip_adapter", ways=2))
