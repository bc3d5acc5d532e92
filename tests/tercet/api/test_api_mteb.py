"""A model as an encoder of MTEB: vectors are those of `embed`, and MTEB's scores those of a direct computation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize

import tercet
from tercet.api import mteb_model as module
from tercet.api.model import Model
from tercet.api.mteb_model import prefixes_of
from tercet.api.mteb_tasks import Suite, evaluate_suites, items_of
from tercet.api.results import Results
from tercet.command import main
from tercet.errors import UserError
from tercet.training.config import RunConfig
from tests.tercet.api.boats import captioned, pixels

COUNT, RATE = 12, 11025


@pytest.fixture(scope="module")
def small() -> Any:
    """The tasks, whose module imports mteb."""
    from tests.tercet.api import small_mteb

    return small_mteb


@pytest.fixture(scope="module")
def results(small: Any, home: Path) -> Results:
    tasks = [*small.every_task(), small.Films(), small.Unreachable()]
    return evaluate_suites(home / "exported", [Suite("small", tasks)])


def scores(model: Model, small: Any) -> dict[str, float]:
    """What each task measures, from the vectors of `embed`."""
    texts, tones = [captioned(n) for n in range(COUNT)], [(small.tone(n), RATE) for n in range(COUNT)]
    z = model.embed(text=texts, image=[pixels(n) for n in range(COUNT)], audio=tones)
    rank = (z.text @ z.image.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    heard = (z.text @ z.audio.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    both = normalize(z.image + z.text, dim=1)
    reverse = (z.image.flip(0) @ both.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    classes = model.embed(text=small.CLASSES).text
    label = torch.arange(COUNT) % 2
    probe = LogisticRegression(max_iter=100).fit(z.image[:8], label[:8])
    pairs = (z.image.view(6, 2, 16) @ z.text.view(6, 2, 16).transpose(1, 2)).flatten(1)
    right = (pairs[:, 0] > pairs[:, 2]) & (pairs[:, 3] > pairs[:, 1])
    chosen = (pairs[:, 0] > pairs[:, 1]) & (pairs[:, 3] > pairs[:, 2])
    return {
        "PicturesOfCaptions": ndcg(rank),
        "SoundsOfCaptions": float((heard < 5).float().mean()),
        "BothOfPictures": ndcg(reverse),
        "Pictures": float((probe.predict(z.image[8:]) == [0, 1, 1, 1]).mean()),
        "ZeroShot": float(((z.image @ classes.T).argmax(dim=1) == label).float().mean()),
        "Similarity": float(spearmanr((z.text * z.text.flip(0)).sum(dim=1), torch.arange(COUNT) % 5).statistic),
        "Pairs": float((right & chosen).float().mean()),
    }


def ndcg(rank_n: Tensor) -> float:
    return float(torch.where(rank_n < 10, 1 / (rank_n + 2.0).log2(), 0).mean())


def test_scores_are_those_of_a_direct_computation(results: Results, model: Model, small: Any) -> None:
    found = {one.subject: one.value for one in results}
    assert found == pytest.approx(scores(model, small), abs=1e-5)  # MTEB rounds some
    assert [(one.dataset, one.task, one.why) for one in results.missing] == [
        ("small", "Films", "the model has no video tower"),
        ("small", "Unreachable", "no network"),
    ]
    (one,) = [one for one in results if one.subject == "Similarity"]
    assert (one.metric, one.dataset, one.task, one.chance, one.n) == ("cosine_spearman", "small", "STS", None, None)


def test_vectors_are_those_of_embed(model: Model, small: Any) -> None:
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType

    encoder = tercet.mteb_model(model, prefixes={"query": "query: ", "document": "passage: "})
    assert encoder.mteb_model_meta is not None

    def encoded(task: Any, side: str, kind: PromptType) -> Tensor:
        task.load_data()
        data = task.dataset["default"]["test"][side]
        batches = create_dataloader(data, task_metadata=task.metadata, prompt_type=kind, batch_size=5)
        return encoder.encode(batches, task_metadata=task.metadata, hf_split="", hf_subset="", prompt_type=kind)

    texts, pictures = small.captions(), small.pictures()
    both = encoded(small.BothOfPictures(), "corpus", PromptType.document)
    expected = model.embed(image=pictures, text=[f"passage: {text}" for text in texts])
    assert torch.allclose(both, expected.image + expected.text, atol=1e-6)
    queries = encoded(small.PicturesOfCaptions(), "queries", PromptType.query)
    assert torch.allclose(queries, model.embed(text=[f"query: {text}" for text in texts]).text, atol=1e-6)
    sounds = encoded(small.SoundsOfCaptions(), "corpus", PromptType.document)
    assert torch.allclose(sounds, model.embed(audio=[small.tone_file(n) for n in range(COUNT)]).audio, atol=1e-6)
    assert torch.allclose(encoder.similarity(queries, 3 * both), normalize(queries) @ normalize(both).T, atol=1e-6)


def test_meta_names_what_determines_the_vectors(model: Model) -> None:
    def meta(**options: Any) -> Any:
        return tercet.mteb_model(tercet.load("exported", dims=options.pop("dims", None)), **options).mteb_model_meta

    plain = meta()
    assert (plain.name, plain.embed_dim, plain.max_tokens) == ("tercet/exported", 16, 32)
    assert (plain.modalities, plain.similarity_fn_name.value) == (["text", "image", "audio"], "cosine")
    assert plain.n_parameters == sum(tensor.numel() for tensor in model.towers.parameters())
    others = [meta(dims=8), meta(prefixes={"query": "q: "})]
    assert (others[0].embed_dim, others[1].use_instructions) == (8, True)
    assert len({plain.revision, *(one.revision for one in others)}) == 3
    assert meta().revision == plain.revision
    with pytest.raises(UserError, match="prefixes: `passage` is not a kind of text; known: document, query"):
        meta(prefixes={"passage": "p: "})


def test_prefixes_are_those_of_the_run() -> None:
    text = {"encoder": "small:text"}
    fields = {
        "text.passage": {"from": "json.passage", "prefix": "passage: "},
        "text.negative": {"from": "json.wrong", "prefix": "wrong: "},
    }
    terms = [{"between": ["text", "text.passage"], "against": {"text": ["text.negative"]}}]
    rest = {"name": "r", "model": {"text": text}, "fields": fields, "terms": terms, "steps": 1, "batch_size": 2}
    run = RunConfig.model_validate({**rest, "data": {"train": {"source": "d", "prefix": "query: "}}})
    assert prefixes_of(run) == {"query": "query: ", "document": "passage: "}
    assert prefixes_of(None) == {}


@pytest.fixture
def named(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """MTEB knows one of the tasks by its name."""
    import mteb

    known: Callable[[str], Any] = mteb.get_task
    replaced = {"Similarity": small.Similarity}
    monkeypatch.setattr(mteb, "get_task", lambda name: replaced[name]() if name in replaced else known(name))


@pytest.mark.usefixtures("named")
def test_the_command_evaluates_a_task_by_its_name(model: Model, small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "exported", "mteb:Similarity", "--json"]) == 0
    (written,) = json.loads(capsys.readouterr().out)
    assert (written["dataset"], written["task"], written["model"]) == ("Similarity", "STS", "exported")
    expected = scores(model, small)["Similarity"]
    assert written["metrics"]["Similarity cosine_spearman"] == pytest.approx(expected, abs=1e-5)
    several = tercet.evaluate(["exported", model], "mteb:Similarity")
    assert [*several] == ["exported"]
    assert "STS, cosine_spearman · Similarity" in repr(several["exported"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tasks": "mteb:MIEB(lit)"}, r"neither a benchmark nor a task `MIEB\(lit\)`; did you mean `MIEB\(lite\)`"),
        ({"tasks": ["mteb:MIEB(lite)"], "labels": ["a"]}, "bring their own data and labels; name no other"),
        ({"tasks": ["mteb:MIEB(lite)", "retrieval"]}, "name no other tasks"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        tercet.evaluate("exported", **options)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"MTEB is not installed; pip install 'tercet\[mteb\]'"):
        tercet.evaluate("exported", "mteb:MIEB(lite)")


def test_items_are_counted_where_mteb_counts_them() -> None:
    import mteb

    task = mteb.get_task("ClothoT2ARetrieval")
    statistics = task.metadata.descriptive_stats
    assert statistics is not None
    assert items_of(statistics, task) == 5585  # a caption of `num_relevant_docs` asks for one of 1,045 sounds
    assert items_of(None, task) is None
