"""The recipes of published methods, made small: two steps of each on built-in data, all in one process."""

import json
import math
import re
from functools import reduce
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tercet.benchmarks.claims import claim_names
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.pretrained import load_model
from tercet.training.recipe import load_recipe
from tests.training.published import (
    INIT,
    LOCKED,
    OBJECTIVES,
    SETS,
    STAGED,
    STARTED,
    WORLD,
    run_all,
    small_stages,
    store_and_run,
    tiny,
    write_orders,
    write_sidecars,
)
from tests.training.tiny import losses, saved

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published")
    world = generate(WORLD, out / "world")
    (out / "classes.txt").write_text("a red circle\na blue square\n", encoding="utf-8")
    write_orders(out, open_source(str(world / "train")).fingerprint)
    write_sidecars(out, str(world / "train"))
    recipes = {name: tiny(name, world, out) for name in OBJECTIVES}
    for name in STAGED:
        recipes[name] += small_stages(name, world)
    for name, more in SETS.items():
        names = {"GRAPH": "graph", "CLUSTERS": "c", "CLASSES": "classes.txt", "VECTORS": "vectors", "MODEL": INIT}
        names |= {"PIVOT": "pivot", "ENGLISH": "english", "PHOTOS": "photos", "FOREIGN": "foreign"}
        names |= {"TAGS": "tags.jsonl", "VOICES": "voices.jsonl", "SCORES": "scores"}
        files = {word: str(out / file) for word, file in names.items()} | {"TRAIN": str(world / "train")}
        recipes[name] += [reduce(lambda one, file: one.replace(*file), files.items(), one) for one in more]
    for name in STARTED:
        recipes[name].append(f"init={out / INIT}")
    recipes["protoclip"] += ["episodes={every: 1, samples: 16}", "memories.prototypes.clusters=4"]
    recipes["tclap"] += ["eval.tasks=[composition]", f"data.val={{source: {world / 'val'}, sound_pairs: {{}}}}"]
    on_ranks(store_and_run, 1, recipes)
    return out


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_recipe_takes_two_steps_with_its_objective(runs: Path, name: str) -> None:
    config = load_recipe(str(runs / name))
    assert OBJECTIVES[name] in [term.objective.name for term in config.terms]
    assert len(losses(runs / name)) == 2
    assert all(map(math.isfinite, losses(runs / name)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_recipe_trains_all_towers_but_the_locked_ones(runs: Path, name: str) -> None:
    config, ended = load_recipe(str(runs / name)), saved(runs / name)
    fresh = build_model(config.model, config.terms, config.seed)
    begun = load_model(str(runs / INIT)) if name in STARTED else fresh
    towers = {path: value for path, value in begun.state_dict().items() if path.startswith("towers.")}
    trained = {path.split(".")[1] for path, value in towers.items() if not ended[f"weight/{path}"].equal(value)}
    assert trained == set(config.model.towers) - LOCKED.get(name, set())


def test_what_an_objective_remembers_is_in_the_run(runs: Path) -> None:
    (column,) = (runs / "isogclr" / "columns" / "term-image-text").glob("*/*.safetensors")
    assert len(load_file(column)["image.temperature"]) == WORLD.train
    averages = [value.item() for name, value in saved(runs / "alip").items() if name.startswith("memory/averages-")]
    assert len(averages) == 3
    assert all(0.9 < average < 1 for average in averages), "two steps away from 1, at a momentum of 0.99"


def test_degla_learns_from_its_average(runs: Path) -> None:
    """At first the average is the model itself, so nothing pulls; after a step it is another one."""
    lines = [json.loads(line) for line in (runs / "degla" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss/distillation"] > 1e-9 for line in lines] == [False, True]
    assert all(line["loss/image-text.local"] > 0.1 and line["loss/text-momentum"] > 0.1 for line in lines)
    average, weights = (
        {name.removeprefix(kind): value for name, value in saved(runs / "degla").items() if name.startswith(kind)}
        for kind in ("memory/momentum/", "weight/")
    )
    moved = [name for name, value in average.items() if not value.equal(weights[name])]
    assert {name.split(".")[1] for name in moved if name.startswith("towers.")} == {"image", "text"}


@pytest.mark.parametrize(("name", "texts"), [("silc", "text"), ("rs_m_clip", "text.languages")])
def test_self_distillation_has_a_teacher_with_a_projector_and_a_centre(runs: Path, name: str, texts: str) -> None:
    kept = {key.partition("/")[2]: value for key, value in saved(runs / name).items() if key.startswith("memory/")}
    assert kept["averages-local-global/centre"].shape == (32,)
    prototypes = kept["momentum/head.projectors.local-global.prototypes"]
    assert not prototypes.equal(saved(runs / name)["weight/head.projectors.local-global.prototypes"])
    first = json.loads((runs / name / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss/local-global"] == pytest.approx(math.log(32), rel=0.3)
    assert {f"loss/image.global-{texts}", "analysis/local-global/information"} <= first.keys()


def test_unic_has_a_projector_and_averages_for_each_teacher(runs: Path) -> None:
    kept = saved(runs / "unic")
    assert kept["memory/averages-teachers/mean"].shape == (1, 4 * 16)
    widths = [
        kept[f"weight/head.projectors.teachers.mlps.image.mlps.{name}.3.weight"].shape for name in ("dfn", "laion")
    ]
    assert widths == [(16, 24)] * 2
    first = json.loads((runs / "unic" / "metrics.jsonl").read_text().splitlines()[0])
    shares = [first[f"analysis/teachers/{name}/kept"] for name in ("openai", "laion", "datacomp", "dfn")]
    assert 1 / 4 < sum(shares) / 4 < 1
    assert load_model(str(runs / "unic")).head.dim == 16, "needs no teacher"


def test_protoclip_has_prototypes_from_its_first_episode_on(runs: Path) -> None:
    """The second step trains on the samples that have a cluster, all of which the episode drew."""
    first, second = map(json.loads, (runs / "protoclip" / "metrics.jsonl").read_text().splitlines())
    assert first["loss/prototypes"] == 0
    assert 0 < second["loss/prototypes"] < 2 * math.log(4)
    (episode,) = (runs / "protoclip" / "episodes").iterdir()
    (labels,) = (episode / "memories/prototypes/text").glob("*/*.safetensors")
    assert len(load_file(labels)["label"]) == 16


def test_beclr_divides_its_memory_into_clusters(runs: Path) -> None:
    """It is full after the first step."""
    kept = {name.split("/")[-1]: value for name, value in saved(runs / "beclr").items() if "memory/bank/" in name}
    assert len(kept["centroids"]) == 4
    assert sorted(set(kept["labels"].tolist())) == [0, 1, 2, 3]
    assert kept["vectors"].norm(dim=1).allclose(torch.ones(16))


def test_cit_trains_on_a_batch_at_least(runs: Path) -> None:
    """No caption is close enough, so the second step trains on the 16 of 24 that are closest to a class."""
    (episode,) = (runs / "cit" / "episodes").iterdir()
    (kept,) = (episode / "kept").glob("*/*.safetensors")
    (drawn,) = (episode / "samples").glob("*/*.safetensors")
    assert [len(load_file(column)["id"]) for column in (kept, drawn)] == [16, 24]


def test_the_table_of_published_systems_is_complete_and_true() -> None:
    """Its numbers are those of the recipes, and its claims exist."""
    rows = re.findall(r"^\| `(\w+)` \| (\*\*.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    names = [name for name, _, _ in rows]
    assert names == sorted(names)
    assert set(OBJECTIVES) <= set(names)
    for name, text, measured in rows:
        config, here = load_recipe(name), text.partition("*Here*")[2].partition("*Differs*")[0]
        for shown, value in ((r"batches of ([\d,]+)", config.batch_size), (r"([\d,.]+) epochs", config.epochs)):
            assert [float(one.replace(",", "")) for one in re.findall(shown, here)] in ([], [value]), name
        claims = re.findall(r"`(\w+)`", measured.partition("[")[2].partition("]")[0])
        assert all(claim in claim_names() for claim in claims), name
        assert claims or measured.endswith("*Not measured*"), name


def test_the_wrong_pairs_of_tripletclip_have_a_loss_of_their_own(runs: Path) -> None:
    lines = [json.loads(line) for line in (runs / "tripletclip" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        parts = [line[f"loss/{term}"] for term in ("image-text", "negative")]
        assert all(part > 1 for part in parts), "chance is over log(8)"
        assert line["loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_tclap_compares_clips_of_two_sounds_with_wrong_orders(runs: Path) -> None:
    (source,) = load_recipe(str(runs / "tclap")).data.train.values()
    assert source.sound_pairs is not None
    assert source.sound_pairs.share == 0.5
    for line in map(json.loads, (runs / "tclap" / "metrics.jsonl").read_text().splitlines()):
        assert line["loss"] == pytest.approx(line["loss/audio-text"] + 0.5 * line["loss/temporal"], rel=1e-5)
        assert line["loss/temporal"] > 0
    (found,) = json.loads((runs / "tclap" / "eval.json").read_text())
    assert {"audio, order accuracy", "audio, join accuracy"} <= found["metrics"].keys()


def test_teminal_hears_wrong_numbers_and_then_wrong_orders(runs: Path) -> None:
    config = load_recipe(str(runs / "teminal"))
    pairs = [config.stage(number).data.train["train"].sound_pairs for number in (0, 1)]
    assert [(one.wrong, one.joins["while"], one.share) for one in pairs if one] == [
        (("single",), 1, 0.5), (("order",), 0, 0.5)
    ]  # fmt: skip
    lines = [json.loads(line) for line in (runs / "teminal" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["loss/temporal"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("name", "term", "weight"),
    [
        ("clip_rocket", "views", 2 / 3),
        ("slip", "simclr", 1),
        ("barlip", "barlow", 0.025),
        ("swalip", "prototypes", 0.2),
    ],
)
def test_a_second_term_has_its_weight_and_trains_its_projector(runs: Path, name: str, term: str, weight: float) -> None:
    main = 1 / 3 if name == "clip_rocket" else 1
    for line in map(json.loads, (runs / name / "metrics.jsonl").read_text().splitlines()):
        expected = main * line["loss/image-text"] + weight * line[f"loss/{term}"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)
    config, ended = load_recipe(str(runs / name)), saved(runs / name)
    fresh = build_model(config.model, config.terms, config.seed).state_dict()
    own = [path for path in fresh if path.startswith("head.projectors.") and path.endswith("weight")]
    assert {path.split(".")[4] for path in own if ".mlps." in path} == {"image"} | (
        {"text"} if name != "slip" else set()
    )
    assert not any(ended[f"weight/{path}"].equal(fresh[path]) for path in own)


@pytest.mark.long
def test_without_its_method_a_recipe_trains_on_less(runs: Path, tmp_path: Path) -> None:
    """TripletCLIP without its negatives loses a term; T-CLAP without pairs of sounds has no row in its second term."""
    off = {"tripletclip": ["terms=[{between: [image, text]}]"], "tclap": ["data.train.sound_pairs=null"]}
    recipes = {name: [*tiny(name, runs / "world", tmp_path), *changes] for name, changes in off.items()}
    on_ranks(run_all, 1, recipes)
    for name, (kept, lost) in {"tripletclip": ("image-text", "negative"), "tclap": ("audio-text", "temporal")}.items():
        on, without = (
            [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]
            for out in (runs, tmp_path)
        )
        assert all(line[f"loss/{lost}"] > 0 for line in on)
        assert all(line.get(f"loss/{lost}", 0.0) == 0 for line in without)
        assert [line[f"loss/{kept}"] for line in on] != [line[f"loss/{kept}"] for line in without]


def test_alpha_clip_trains_the_filters_over_its_masks(runs: Path) -> None:
    """They begin at 0, and the run that it starts from has none."""
    filters = saved(runs / "alpha_clip")["weight/towers.image.stem.0.0.alpha"]
    assert filters.abs().max() > 0
    assert "towers.image.stem.0.0.alpha" not in load_model(str(runs / INIT)).state_dict()


def test_ced_learns_the_class_that_its_teacher_finds_in_each_view(runs: Path) -> None:
    """Of two classes, one is stored, so that the loss begins near log 2. No caption is read."""
    assert losses(runs / "ced")[0] == pytest.approx(math.log(2), abs=0.7)
    assert set(load_recipe(str(runs / "ced")).model.towers) == {"audio"}


@pytest.mark.long
def test_ced_reads_what_was_stored_of_its_own_views_only(runs: Path, tmp_path: Path) -> None:
    """Another augmentation is refused. A single stored class is certain at any temperature."""
    overrides = [*tiny("ced", runs / "world", tmp_path), "data.views.count=2"]
    overrides += [f"memories.scores.folder={runs / 'scores'}"]
    on_ranks(run_all, 1, {"ced": [*overrides, "memories.scores.temperature=5"]})
    assert losses(tmp_path / "ced")[0] == pytest.approx(losses(runs / "ced")[0]), "one class is stored of each"
    with pytest.raises(UserError, match=r"data\.augment is .*, but the stored views have"):
        run_all(World(), {"ced": [*overrides, "data.augment.audio.gain=null", f"out={tmp_path / 'other'}"]})


@pytest.mark.long
def test_without_masks_alpha_clip_starts_with_the_same_loss_and_another_gradient(runs: Path, tmp_path: Path) -> None:
    """In the first step, only the gradient of the filters over the masks differs."""
    off = {"full": "data.augment.image.full_alpha=1", "rgb": "model.image.alpha=false"}
    overrides = [*tiny("alpha_clip", runs / "world", tmp_path), f"init={runs / INIT}"]
    for name, change in off.items():
        more = ["data.augment.image.full_alpha=0"] if name == "rgb" else []
        on_ranks(run_all, 1, {"alpha_clip": [*overrides, *more, change, f"out={tmp_path / name}"]})
    masked, *others = (losses(folder) for folder in (runs / "alpha_clip", *(tmp_path / name for name in off)))
    assert all(other[0] == pytest.approx(masked[0], rel=1e-6) for other in others)
    assert all(abs(other[1] - masked[1]) > 1e-7 for other in others)


@pytest.mark.long
def test_without_its_teachers_mobileclip_is_clip_on_both_captions(runs: Path, tmp_path: Path) -> None:
    """The batches stay the same. A weight of 0 gives the losses of a recipe that has no teacher."""
    overrides = [*tiny("mobileclip", runs / "world", tmp_path), "data.views.count=2", "data.augment.image={flip: 0.5}"]
    folders = [f"memories.{name}.folder={runs / 'vectors'}" for name in ("first", "second")]
    terms = [term.model_dump(mode="json", exclude_defaults=True) for term in load_recipe("mobileclip").terms]
    silent = [{**term, "objective": {**term["objective"], "weight_soft": 0}} for term in terms]
    plain = [{"between": term["between"]} for term in terms]
    none = ["memories.first=null", "memories.second=null"]
    off = {
        "silent": [*folders, f"terms={json.dumps(silent)}"],
        "plain": [*none, f"terms={json.dumps(plain)}"],
    }
    for name, changes in off.items():
        on_ranks(run_all, 1, {"mobileclip": [*overrides, *changes, f"out={tmp_path / name}"]})
    assert losses(tmp_path / "silent") == pytest.approx(losses(tmp_path / "plain"), rel=1e-6)
    assert abs(losses(runs / "mobileclip")[0] - losses(tmp_path / "plain")[0]) > 1e-3


@pytest.mark.long
def test_without_its_memories_uclip_compares_the_vectors_of_captions_alone(runs: Path, tmp_path: Path) -> None:
    """The first loss between the two vectors of a caption stays, and the gradient changes. At a high temperature all
    captions retrieve the same mean, so the loss of what they retrieve is that of chance."""
    folders = {"PIVOT": "pivot", "ENGLISH": "english", "PHOTOS": "photos", "FOREIGN": "foreign"}
    overrides = tiny("uclip", runs / "world", tmp_path)
    for one in SETS["uclip"]:
        overrides.append(reduce(lambda text, word: text.replace(word, str(runs / folders[word])), folders, one))
    overrides += [f"model.{modality}.projection.noise=0" for modality in ("image", "text")]
    terms = [term.model_dump(mode="json", exclude_defaults=True) for term in load_recipe("uclip").terms]
    blunt = {name: {"among": {"temperature": 1e6}} for name in ("image.retrieved", "text.retrieved")}
    off = {
        "on": [],
        "plain": [f"terms={json.dumps(terms[:1])}"],
        "blunt": [f"fields={json.dumps(blunt)}"],
    }
    found = {}
    for name, changes in off.items():
        on_ranks(run_all, 1, {"uclip": [*overrides, *changes, f"out={tmp_path / name}"]})
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        found[name] = [json.loads(line) for line in lines]
    on, plain, blunted = (found[name] for name in off)
    assert on[0]["loss/english"] == pytest.approx(plain[0]["loss/english"], rel=1e-6)
    assert abs(on[1]["loss/english"] - plain[1]["loss/english"]) > 1e-4
    assert plain[0]["loss"] == plain[0]["loss/english"]
    assert blunted[0]["loss/retrieved"] == pytest.approx(math.log(16), abs=1e-2)
    assert abs(on[0]["loss/retrieved"] - math.log(16)) > 0.1
