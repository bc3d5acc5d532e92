"""The recipes of published methods, made small, and what else they read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tercet.api.features import embed_features
from tercet.api.view_column import embed_views
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.captions.sidecar import write_rows
from tercet.data_pipelines.columns import Column, write_column
from tercet.data_pipelines.manifests.reading import Reading
from tercet.data_pipelines.sources.open import open_source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.voice.config import VoicesConfig
from tercet.data_pipelines.voice.describe import describe
from tercet.distributed import World
from tercet.training.folder import open_folder
from tercet.training.preflight.checks import counted
from tercet.training.preflight.complete import inherited
from tercet.training.recipe import load_recipe
from tercet.training.runner import Runner
from tests.training.tiny import MODEL

WORLD = WorldConfig(
    train=32, val=16, combinations=0, size=32, seconds=0.5, samples_per_shard=16, workers=1,
    partly_wrong=0.3, languages={"de": 0, "fr": 0.2}, rewrites=4, synthetic=0.1, long=0.1, negative_media=("image",),
    masks=True,
)  # fmt: skip
OBJECTIVES = {
    "dcl": "decoupled",
    "macl": "macl",
    "align_uniform": "align_uniform",
    "isogclr": "isogclr",
    "cwcl": "cwcl",
    "one_to_k": "multi_positive",
    "dreamlip": "infonce",
    "protoclip": "prototype",
    "beclr": "same_cluster",
    "silc": "self_distillation",
    "rs_m_clip": "self_distillation",
    "unic": "multi_teacher",
    "alip": "alip",
    "symile": "symile",
    "gcl": "graded",
    "diht": "hard_negative",
    "degla": "infonce",
    "tripletclip": "infonce",
    "tclap": "infonce",
    "teminal": "infonce",
    "laclip": "infonce",
    "convirt": "infonce",
    "me5": "infonce",
    "zerovl": "infonce",
    "jina_clip_v1": "infonce",
    "jina_clip_v2": "matryoshka",
    "siglip2": "sigmoid",
    "negclip": "infonce",
    "scincl": "infonce",
    "unime": "infonce",
    "mcl": "infonce",
    "cit": "infonce",
    "flip": "infonce",
    "clipa": "infonce",
    "clip_refine": "random_alignment",
    "proclip": "structure_distillation",
    "teachtext": "similarity_distillation",
    "uclip": "align_uniform",
    "laion_clap": "infonce",
    "glap": "sigmoid",
    "paraclap": "infonce",
    "clasp": "infonce",
    "mobileclip": "soft",
    "alpha_clip": "infonce",
    "ced": "prototype",
    "clip_rocket": "infonce",
    "slip": "poly_view",
    "barlip": "barlow_twins",
    "swalip": "swav",
    "long_clip": "primary_component",
}
LOCKED = {
    "cwcl": {"image"},
    "symile": {"image", "audio"},
    "paraclap": {"text"},
    "clasp": {"text"},
    "alpha_clip": {"text"},
    "proclip": {"text"},
    "teachtext": {"image"},
    "uclip": {"image", "text"},
}
INIT = "isogclr"  # the run that those of STARTED start from
STAGED = ("me5", "jina_clip_v1", "jina_clip_v2", "siglip2")  # those whose stages have sources or batches of their own
STARTED = ("alpha_clip", "gcl", "degla", "negclip", "unime", "mcl", "long_clip", "clip_refine", "rs_m_clip")
PARTS = {  # of the training data, as three sources
    name: {"source": "TRAIN", "part": part, "split_by": "file"}
    for name, part in {"speech": [0, 0.3], "sound": [0.3, 0.6], "music": [0.6, 1]}.items()
}
FUSED = {
    "encoder": "fused:concat", "seconds": 0.5, "unlocked": 1,
    "options": {"width": 16, "parts": [{key: MODEL["audio"][key] for key in ("encoder", "features", "options")}] * 2},
}  # fmt: skip
DIMS = "[64, 128, 256, 512, 768, 1024]"  # of prefixes, where the joint space of tests has 16
SMALL = {"model.image.size": 48, "model.text.context_length": 32}  # of stages
JINA = [
    "data.train={pictures: {source: TRAIN}, texts: {source: TRAIN, fields: [text], captions: {json.synthetic: 1}}}",
    "fields={text.positive: {from: json.long}}", "model.text.context_length=24", "epochs=0.5",
]  # fmt: skip
PROJECTED = ("silc", "rs_m_clip", "unic")  # those whose projectors have prototypes or teachers
LOCAL = ["fields={image.local: {rows: 3, size: 16}}"]  # small crops of small pictures
SETS: dict[str, list[str]] = {  # what else makes a recipe small; neighbours double the steps of an epoch, or more
    "zerovl": [
        "data.train={sbu: TRAIN, cc3m: TRAIN}", "data.augment.image.randaugment=null", "micro_batch=8", "epochs=0.5",
    ],
    "gcl": ["data.train.captions={json.synthetic: 1}", "fields={text.title: {from: json.long}}"],
    "siglip2": ["fields={image.local: {rows: 2, size: 16}, image.masked: {hide: {side: 8}}}"],
    "jina_clip_v1": JINA,
    "jina_clip_v2": JINA,
    "me5": ["data.train.captions={json.synthetic: 1}", "fields={text.passage: {from: json.long}}"],
    "negclip": ["data.neighbors.graph=GRAPH", "epochs=0.5"],
    "scincl": [
        "data.neighbors.graph=GRAPH", "data.neighbors.range_min=1", "data.neighbors.range_max=3", "epochs=0.5",
        "fields={text.positive: {from: json.synthetic}}",
    ],
    "unime": ["data.neighbors.graph=GRAPH", "data.neighbors.absolute_margin=null", "epochs=0.5"],
    "mcl": ["data.clusters.column=CLUSTERS"],
    "silc": LOCAL,
    "unic": [f"memories.{name}.model=MODEL" for name in ("openai", "laion", "datacomp", "dfn")],
    "rs_m_clip": LOCAL,
    "beclr": ["memories.bank.clusters=4", "memories.bank.size=16", "memories.bank.start=0"],
    "flip": [
        "stages=[{name: masked, steps: 0.5, set: {model.image.patch_dropout: 0.5}}, {name: unmasked, steps: 0.5}]",
        "epochs=1",
    ],
    "clipa": [
        "model.text.context_length=24", "model.text.keep_positions=4",
        "stages=[{name: small, steps: 0.5, set: {model.image.size: 16, model.text.context_length: 8}}, "
        "{name: full, steps: 0.5, set: {model.image.patch_dropout: 0.3}}]",
        "epochs=1",
    ],
    "mobileclip": [
        "memories.first.folder=VECTORS", "memories.second.folder=VECTORS", "data.views.count=2",
        "data.augment.image={flip: 0.5}",
    ],
    "ced": ["memories.scores.folder=SCORES", "data.views.count=2"],
    "long_clip": [
        "model.text.context_length=80",
        "terms=[{between: [image, text]}, "
        "{between: [image, text.short], objective: {name: primary_component, components: 4}}]",
    ],
    "clip_refine": ["memories.initial.model=MODEL"],
    "proclip": [
        "memories.clip={vectors: '', model: MODEL}", "memories.initial.model=MODEL",
        "model.text.projection={layers: 3, hidden: 8}",
    ],
    "teachtext": ["epochs=1", *(f"memories.{one}={{vectors: '', model: MODEL}}" for one in ("one", "other"))],
    "cit": ["episodes={every: 1, start: 1, samples: 24, curate: {metadata: CLASSES, threshold: 1}}"],
    "laion_clap": ["data.train.sidecar=TAGS"],
    "glap": [f"data.train={json.dumps(PARTS)}"],
    "paraclap": ["data.train.sidecar=VOICES", "data.val.sidecar=null", "data.val.captions={txt: 1}"],
    "uclip": [
        *(f"model.{modality}.projection={{hidden: 8, unit: true, noise: 0.05}}" for modality in ("image", "text")),
        "data.train.fields=[text]", "data.train.captions={txt: 1}", "model.text.cached=ENGLISH",
        "fields={image.english: {features: PIVOT}, image.retrieved: {among: {features: PHOTOS}}, "
        "text.retrieved: {among: {features: FOREIGN}}}",
    ],
    "clasp": ["model.audio=null", f"model.audio={json.dumps(FUSED)}"],
}  # fmt: skip
UNPAIRED: dict[str, dict[str, Any]] = {  # the folders of vectors that uclip reads, and how their data are read
    "english": {"captions": {"txt": 1}},
    "photos": {"fields": ["image"]},
    "foreign": {"fields": ["text"], "captions": {"json.captions.de": 1}},
}
TAUGHT = {"mobileclip": (INIT, "vectors", None), "ced": ("symile", "scores", "classes.txt")}


def tiny(name: str, data: Path, out: Path) -> list[str]:
    """The overrides that make a recipe small: the towers of tests where the recipe has any, and two steps."""
    overrides = ["batch_size=16", "epochs=1", "schedule.warmup=0", "precision=fp32", "model.dim=16", "data.workers=0"]
    overrides += ["log.to=[]", "eval.tasks=[]", "eval.wise_ft=[]", "early_stopping=null", f"out={out / name}"]
    overrides += [f"data.train={data / 'train'}", f"data.val={data / 'val'}"]
    overrides += with_small_projectors(name)
    for modality, tower in load_recipe(name).model.towers.items():
        kept = {"unlocked": tower.unlocked} if tower.encoder and tower.unlocked is not None else {}
        kept |= {"alpha": True} if tower.alpha else {}
        overrides += [f"model.{modality}=null", f"model.{modality}={json.dumps(MODEL[modality] | kept)}"]
    return overrides + (small_projectors(name) if name in PROJECTED else [])


def small_projectors(name: str) -> list[str]:
    terms = [term.model_dump(mode="json", exclude_defaults=True) for term in load_recipe(name).terms]
    projectors = [term["projector"] for term in terms if "projector" in term]
    for projector in projectors:
        projector |= {"hidden": 24} | ({"dim": 8, "prototypes": 32} if "prototypes" in projector else {})
        projector |= {"teachers": dict.fromkeys(projector["teachers"], 16)} if "teachers" in projector else {}
    return [f"terms={json.dumps(terms)}"] if projectors else []


def small_stages(name: str, data: Path) -> list[str]:
    """Overrides for a recipe whose stages have sources or batches of their own: equal parts of the run, and the data of
    tests, which have no queries."""
    given = load_recipe(name).stages
    stages = []
    for stage in given:
        changes = {key: value for key, value in stage.set.items() if key != "batch_size"}
        changes |= {key: small for key, small in SMALL.items() if key in changes}
        if "data.train" in changes:
            changes["data.train"] = placed(changes["data.train"], str(data / "train"))
        stages.append({"name": stage.name, "steps": 1 / len(given), "set": changes})
    written = json.dumps(stages).replace("json.query", "json.synthetic").replace(DIMS, "[4, 16]")
    written = written.replace('"hidden": 2048, "prototypes": 8192', '"hidden": 16, "prototypes": 8')
    terms = json.dumps([term.model_dump(mode="json", exclude_defaults=True) for term in load_recipe(name).terms])
    return [f"stages={written}", "epochs=1", f"terms={terms.replace(DIMS, '[4, 16]')}"]


def placed(train: dict[str, Any], path: str) -> dict[str, Any]:
    """One source or several by name, at this path."""
    if "source" in train:
        return {**train, "source": path}
    return {name: {**source, "source": path} for name, source in train.items()}


def with_small_projectors(name: str, *left_out: str) -> list[str]:
    """The terms, but for some of them, if any has a projector."""
    terms = [term.model_dump(mode="json") for term in load_recipe(name).terms if term.name not in left_out]
    for term in terms:
        if projector := term.get("projector"):
            projector |= {"hidden": 16, "dim": 8} | ({"prototypes": 6} if projector.get("prototypes") else {})
    return [f"terms={json.dumps(terms)}"] if left_out or any("projector" in term for term in terms) else []


def write_orders(out: Path, fingerprint: str) -> None:
    """A graph in which the neighbours of a sample are those after it, and two clusters."""
    id_N = np.arange(WORLD.train)
    neighbors = (id_N[:, None] + np.arange(1, 9)) % WORLD.train
    scores = np.zeros(neighbors.shape, dtype=np.float32)
    write_column(out / "graph", fingerprint, Column(id_N, {"neighbors": neighbors, "scores": scores}))
    write_column(out / "c", fingerprint, Column(id_N, {"label": id_N % 2}))


def write_sidecars(out: Path, data: str) -> None:
    """Keywords of each sample, and captions of how it sounds."""
    source = open_source(data)
    rows = ({"key": source.key(id), "tags": ["rain", f"bird_{id}"]} for id in range(len(source)))
    write_rows(out / "tags.jsonl", rows)
    describe(data, Reading(), VoicesConfig(labels=("identity",)), out / "voices.jsonl", workers=1)


def run_all(world: World, recipes: dict[str, list[str]]) -> None:
    for name, overrides in recipes.items():
        config = counted(inherited(load_recipe(name, overrides)), world, OpenedSources())
        with open_folder(config, world) as folder:
            Runner(config, folder, world).finish()


def store_and_run(world: World, recipes: dict[str, list[str]]) -> None:
    """Runs of other recipes are the teachers. The vectors of one are both folders of the ensemble of mobileclip."""
    run_all(world, {name: overrides for name, overrides in recipes.items() if name not in (*TAUGHT, "uclip")})
    store_unpaired(recipes["uclip"])
    run_all(world, {"uclip": recipes["uclip"]})
    for name, (teacher, folder, classes) in TAUGHT.items():
        out = Path(next(one.removeprefix("out=") for one in recipes[name] if one.startswith("out="))).parent
        embed_views(str(out / teacher), name, out / folder, recipes[name], classes=classes and out / classes, top=1)
        run_all(world, {name: recipes[name]})


def store_unpaired(overrides: list[str]) -> None:
    """The vectors that uclip reads; those of English captions also by the text tower of another recipe's run."""
    config = load_recipe("uclip", overrides)
    out, source = Path(config.model.cached["text"]).parent, config.data.train["train"].source
    assert isinstance(source, str)
    towers = [one for one in overrides if one.startswith("model.")]
    for name, read_as in UNPAIRED.items():
        embed_features("uclip", {"source": source, **read_as}, out / name, towers)
    embed_features(str(out / INIT), {"source": source, **UNPAIRED["english"]}, out / "pivot")
