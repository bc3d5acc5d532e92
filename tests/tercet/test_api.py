"""What README shows of Python runs as it stands, and what is embedded alone is what data sets are embedded to."""

import copy
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

import tercet
from tercet.api.model import Model
from tercet.api.train import Run
from tercet.command import main
from tercet.configs.catalogue import RECIPES
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.folder import export_folder, pretrained_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tercet.testing import on_ranks

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
TOWER = {"width": 32, "heads": 2}
SPACE = {
    "model": {
        "dim": 16,
        "image": {"encoder": "small:image", "size": 32, "options": TOWER},
        "audio": {"encoder": "small:audio", "features": "small16k64", "seconds": 0.5, "options": TOWER},
        "text": {"encoder": "small:text", "options": TOWER},
    },
    "pairs": {"image-text": 1.0, "audio-text": 1.0},
}


def pixels(number: int) -> NDArray[np.uint8]:
    """Boats are red, cars are blue."""
    picture = np.random.default_rng(number).integers(0, 60, (40, 48, 3), dtype=np.uint8)
    picture[..., 2 * (number % 2)] += 150
    return picture


def captioned(number: int) -> str:
    return f"{('a red boat', 'a blue car')[number % 2]}, number {number}"


def write_table(path: Path, numbers: Sequence[int], sound: str | None = None) -> None:
    """With a sound in every eighth row, if there is one."""
    heard = {number: f",{sound if number % 8 == 0 else ''}" if sound else "" for number in numbers}
    rows = [f'photos/{number}.png,"{captioned(number)}"{heard[number]}' for number in numbers]
    path.write_text("\n".join(["path,caption" + (",audio" if sound else ""), *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, tables about them, a sound, and an exported model."""
    home = tmp_path_factory.mktemp("home")
    (home / "photos").mkdir()
    for number in range(60):
        Image.fromarray(pixels(number)).save(home / "photos" / f"{number}.png")
    Image.fromarray(pixels(0)).save(home / "boat.jpg")
    soundfile.write(home / "horn.wav", np.sin(np.arange(11025) / 9).astype(np.float32), 11025, subtype="FLOAT")
    write_table(home / "photos.csv", range(48))
    write_table(home / "val.csv", range(48, 60))
    config = SpaceConfig.model_validate(SPACE)
    export_folder(build_model(config.model, config.terms, seed=3), config, home / "exported")
    return home


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("TERCET_CACHE", str(home / "cache"))


@pytest.fixture
def model() -> Model:
    return tercet.load("exported")


SMALL = """
pairs: {image-text: 1.0, audio-text: 1.0}
batch_size: 16
precision: fp32
data: {workers: 0}
eval: {every: null, before: false, wise_ft: []}
early_stopping: null
"""


def run_readme(world: World, home: Path) -> tuple[str, str]:
    """Its Python as it stands, with a tiny model of three modalities for open_clip's, in a recipe of small batches."""
    write_table(home / "photos.csv", range(48), "horn.wav")
    recipes = home / "recipes"
    recipes.mkdir()
    (recipes / "finetune_clip.yaml").write_text(f"extends: {RECIPES / 'finetune_clip.yaml'}\n{SMALL}")
    features = torch.eye(3, requires_grad=True)
    names = {"image_features": features, "text_features": features, "logit_scale": torch.tensor(2.0)}
    output = io.StringIO()
    with (
        patch("tercet.configs.catalogue.RECIPES", recipes),
        patch(
            "tercet.models.interop.open_clip.pretrained_open_clip", lambda spec: pretrained_folder(home / "exported")
        ),
        patch("sys.stdout", output),
    ):
        exec(re.findall(r"```python\n(import tercet.*?)```", README, re.DOTALL)[0], names)
    assert features.grad is not None
    return output.getvalue(), names["run"]._repr_html_()  # type: ignore[attr-defined]


def test_the_python_code_of_readme_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(home, tmp_path / "home"))
    ((printed, html),) = on_ranks(run_readme, 1, tmp_path / "home")
    assert re.search(r"Retrieval · val\.csv · 12 candidates", printed)
    assert re.search(r"class from image +\d+\.\d", printed)
    hits = re.findall(r"^(-?[\d.e-]+) photos/(\d+)\.png$", printed, re.MULTILINE)
    assert len(hits) == 5
    assert [float(score) for score, _ in hits] == sorted((float(score) for score, _ in hits), reverse=True)
    assert 'href="runs/photos/report.html"' in html
    run = Run("runs/photos")
    assert run.report.is_file()
    assert run.results["image→text R@1"].low <= run.results["image→text R@1"].value
    assert tercet.load(run).name == "runs/photos"


def test_samples_embedded_by_hand_equal_those_of_the_dataset(model: Model) -> None:
    table = tercet.embed(model, "photos.csv").table()
    given = [Path(f"photos/{number}.png") for number in range(48)]
    z = model.embed(image=given, text=[captioned(number) for number in range(48)], batch_size=20)
    assert torch.allclose(z.image, table.vectors["image"], atol=1e-6)
    assert torch.allclose(z.text, table.vectors["text"], atol=1e-6)
    assert copy.copy(z).text is z["text"]
    with pytest.raises(AttributeError, match=r"there are no embeddings of `imag`; did you mean `image`\?"):
        z.imag  # noqa: B018  # what a misspelt name raises


def test_a_replaced_picture_is_embedded_again(model: Model, tmp_path: Path) -> None:
    for number in (0, 1):
        Image.fromarray(pixels(number)).save(tmp_path / f"{number}.png")
    before = tercet.embed(model, tmp_path)
    assert tercet.embed(model, tmp_path).folder == before.folder
    Image.fromarray(pixels(5)).save(tmp_path / "0.png")
    after = tercet.embed(model, tmp_path).table().vectors["image"]
    assert torch.allclose(after, model.embed(image=[pixels(5), pixels(1)]).image, atol=1e-6)
    assert not torch.allclose(after[0], before.table().vectors["image"][0], atol=1e-3)


def test_a_picture_has_the_same_vector_as_path_bytes_image_or_array(model: Model) -> None:
    path = Path("photos/7.png")
    things = [path, str(path), path.read_bytes(), Image.open(path), Image.open(path).convert("RGBA"), pixels(7)]
    rows = model.embed(image=[*things, torch.from_numpy(pixels(7))]).image
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)
    assert model.embed(image=path).image.equal(model.embed(image=[path]).image)
    assert model.embed(image=pixels(7)).image.equal(model.embed(image=[pixels(7)]).image)


def test_a_sound_has_the_same_vector_as_path_bytes_or_array(model: Model) -> None:
    wave, rate = soundfile.read("horn.wav", dtype="float32")
    two = np.stack([wave, wave])
    tensor = torch.from_numpy(two.T).requires_grad_()
    rows = model.embed(audio=["horn.wav", (wave, rate), (two, float(rate)), (tensor, rate)]).audio
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)
    whole = np.round(20_000 * wave).astype(np.int16)
    one, other = model.embed(audio=[(whole, np.int64(rate)), (whole / 2**15, rate)]).audio
    assert torch.allclose(one, other, atol=1e-6)
    assert model.embed(audio=(wave, rate)).audio.shape == (1, 16)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"image": ["photos/no.png"]}, "photos/no.png: cannot be read"),
        ({"image": ["horn.wav"]}, "horn.wav is not a file of image"),
        ({"image": [np.zeros((4, 4, 3))]}, "an array of float64 [4, 4, 3]; give uint8"),
        ({"image": [b"nothing"]}, "image number 0 cannot be embedded (image: not a known format)"),
        ({"audio": [np.zeros(9)]}, "audio: ndarray cannot be embedded; give a path, bytes or (wave, rate)"),
        (
            {"audio": (np.zeros(9, np.uint8), 8000)},
            "audio: a wave of uint8; give floats from -1 to 1, or signed integers",
        ),
        ({"audio": (np.zeros(9), 0)}, "audio: a wave of shape [9] at 0; give"),
        ({"text": "a", "batch_size": 0}, "batch_size is 0"),
        ({"picture": ["boat.jpg"]}, "exported has no picture tower"),
    ],
)
def test_inputs_that_cannot_be_embedded_are_errors_of_one_line(
    model: Model, given: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserError) as caught:
        model.embed(**given)
    assert complaint in str(caught.value)


def test_search_takes_the_same_inputs_as_embed(model: Model) -> None:
    index = tercet.index(model, "photos.csv")
    path = Path("photos/7.png")
    asked = [index.search(query, k=3) for query in (str(path), path, Image.open(path), pixels(7))]
    asked.append(index.search(image=path.read_bytes(), k=3))
    assert {tuple(found) for found in asked} == {tuple(asked[0])}
    assert asked[0][0].path == str(path)
    assert asked[0][0].score == pytest.approx(1)


def test_results_print_as_text_and_as_html(model: Model) -> None:
    """In a notebook, too, where a console would write elsewhere; names are not taken for markup."""
    found, compared = (
        tercet.index(model, "photos.csv").search("<b>red</b>", k=2),
        tercet.compare(model, "exported", data="val.csv"),
    )
    with patch("rich.console._is_jupyter", return_value=True):
        assert f"{found[0].score:.3f}   {found[0].path}" in repr(found)
        assert re.search(r"exported against exported · val\.csv\n.*not told apart", repr(compared), re.DOTALL)
    assert "<b>&lt;b&gt;red&lt;/b&gt;</b>" in found._repr_html_()
    assert f">{found[1].path}</td>" in found._repr_html_()
    rows = re.findall(
        r">val\.csv · (.*?)</th>\s*<th.*?>(.*?)</th>.*?<td><b>0.0</b></td>", compared._repr_html_(), re.DOTALL
    )
    assert rows[0] == ("image→text", "R@1 %")
    assert compared.to_json()["against"]["exported"][0]["verdict"] == "not told apart"
    store = tercet.embed(model, "val.csv")
    assert repr(store) == f"Store({store.folder}: image 12 × 16, text 12 × 16; 0 samples left out)"
    assert repr(store.table()) == "EmbeddingTable(12 samples: image [12, 16], text [12, 16])"


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda: tercet.load(3), "the model is of type int; give a run, an exported folder, "),
        (lambda: tercet.train("finetune_clip", batchsize=3), "tercet.train: unknown key `batchsize`; did you mean"),
        (lambda: tercet.train("finetune_clip", optimizer={"lr": "x"}), "tercet.train: `optimizer.lr` is `x`"),
        (lambda: tercet.train("finetune_clip", plugins="mine.txt"), "/mine.txt: no such Python file"),
        (lambda: tercet.index("exported", 3), "data is of type int; give a path, a list of paths, or a mapping"),
        (lambda: tercet.index("exported", {"image": "path"}), "data: `source` is missing"),
        (lambda: tercet.embed("exported", "val.csv", out="photos.csv"), "photos.csv is a file"),
        (lambda: tercet.compare("exported", data="val.csv"), "nothing to compare exported with"),
        (lambda: tercet.evaluate("exported", "zero_shot", "val.csv", labels="boat"), "`boat` is a text; write"),
        (
            lambda: tercet.evaluate("exported", "zero_shot", "val.csv", ["boat", "car"], templates="a {}"),
            "the template `a {}` has no place for the class",
        ),
    ],
)
def test_wrong_arguments_are_errors_of_one_line(ask: Callable[[], object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        ask()


def test_data_may_be_several_tables_and_templates_a_single_one(model: Model) -> None:
    assert len(tercet.index(model, ["photos.csv", Path("val.csv")])) == 60
    asked = [
        tercet.evaluate(model, "zero_shot", data, ["boat", "car"], templates=templates)
        for data, templates in [("val.csv", "a {class}"), ({"val": {"new": "val.csv"}}, ["a {class}"])]
    ]
    assert [one.value for one in asked[0]] == [one.value for one in asked[1]]
    assert asked[1][0].dataset == "new"


def test_a_model_without_an_image_tower_refuses_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = {name: tower for name, tower in SPACE["model"].items() if name != "image"}
    config = SpaceConfig.model_validate({"model": towers, "pairs": {"audio-text": 1.0}})
    heard = str(export_folder(build_model(config.model, config.terms, seed=3), config, tmp_path / "heard"))
    told = "the model encodes audio and text, and val.csv holds image and text; name data with audio, or another model"
    with pytest.raises(UserError, match=told):
        tercet.evaluate(heard, data="val.csv")
    assert tercet.embed(heard, "val.csv").modalities == ["text"]
    assert "val.csv: image is left out: the model has no encoder for it" in capsys.readouterr().err
    with pytest.raises(UserError, match="no sample of photos has a modality that the model encodes"):
        tercet.embed(heard, "photos")
    with pytest.raises(UserError, match="no sample of the data has a modality that the model encodes"):
        tercet.evaluate(heard, data="photos")


def test_the_parquet_file_holds_the_vectors_of_the_store(model: Model) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert main(["embed", "exported", "--data", "photos.csv", "--out", "table", "--format", "parquet"]) == 0
    rows = parquet.read_table("table/embeddings.parquet").to_pylist()
    table = tercet.embed(model, "photos.csv").table()
    assert torch.tensor([row["image"] for row in rows]).equal(table.vectors["image"])
    assert [row["caption"] for row in rows] == [captioned(number) for number in range(48)]
    assert "audio" not in rows[0]


def test_labels_with_another_task_than_zero_shot_are_refused(model: Model) -> None:
    with pytest.raises(UserError, match="labels are the classes of the task `zero_shot`"):
        tercet.evaluate(model, "retrieval", data="val.csv", labels=["boat"])


def test_the_self_test_prints_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "exported", "--data", "val.csv", "--self-test"]
    assert main(command) == 0
    assert "holds" in capsys.readouterr().out
    with patch("tercet.eval.ranking.TIE", -1e-6):
        assert main(command) == 1
    assert "wrong: image→text, text→image" in " ".join(capsys.readouterr().out.split())


ELSEWHERE = """
import os, sys, torch, open_clip, torchaudio, torchvision
from multiprocessing import context
del os.pread, os.sched_getaffinity, os.memfd_create, os.sysconf, context.ForkServerContext, context.ForkServerProcess
sys.modules |= dict.fromkeys(("deepspeed", "fcntl", "resource"))
import tercet
from tercet.command import main
for command in (
    "eval exported retrieval --data val.csv", "compare exported exported --data val.csv",
    "embed exported --data val.csv --out embedded", "search exported boat.jpg --data photos -k 2",
    "eval exported retrieval --data shards", "eval exported retrieval --data hf:saved",
    "data check shards --workers 2", "data check hf:saved --workers 1",
):
    assert main(command.split()) == 0, command
assert len(tercet.evaluate(tercet.load("exported"), data="val.csv"))
from concurrent.futures import ThreadPoolExecutor
from tercet.doctor.machine import machine
from tercet.system import pread
with open("shards/000000.tar", "rb") as file, ThreadPoolExecutor(4) as threads:
    whole = file.read()
    pieces = list(threads.map(lambda start: pread(file.fileno(), 50, start), range(5000)))
assert pieces == [whole[start : start + 50] for start in range(5000)]
assert [finding.name for finding in machine()][-1] == "free disk"
"""


def test_all_but_training_works_without_deepspeed_and_on_other_systems(home: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    assert main(["data", "pack", "val.csv", "--out", "shards"]) == 0
    shutil.rmtree(home / "shards" / ".index")
    (home / "saved").mkdir()
    (home / "saved" / "state.json").write_text('{"_data_files": [{"filename": "0.arrow"}]}')
    rows = [{"image": (home / f"photos/{row}.png").read_bytes(), "caption": captioned(row)} for row in range(48, 60)]
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(home / "saved" / "0.arrow", table.schema) as stream:
        stream.write_table(table)
    found = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "not told apart" in found.stdout


def test_importing_tercet_does_not_import_torch() -> None:
    check = "import sys, tercet; dir(tercet); sys.exit('torch' in sys.modules or 'embed' not in dir(tercet))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
    with pytest.raises(AttributeError, match="`tercet` has no attribute `evaluat`"):
        tercet.evaluat  # noqa: B018  # what a misspelt name raises
