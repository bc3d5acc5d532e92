"""What is on disk is what is installed: a package forgotten in setup.cfg works in a checkout and nowhere else."""

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "configs", "data_pipelines", "eval", "models", "training")
ROOMS = ("tercet", *FOLDERS)

# An editable installation finds the checkout from anywhere; without its finder a process sees what its path holds.
COMMAND_WITHOUT_EDITABLE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import tercet
from tercet.command import main
print(len(tercet.__path__), flush=True)
sys.exit(main())
"""


def setup_cfg() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def words(section: str, key: str) -> list[str]:
    return setup_cfg()[section][key].split("\n")[1:]


def packages_on_disk() -> set[str]:
    found = {path.parent.relative_to(ROOT) for room in ROOMS for path in ROOT.glob(f"{room}/**/__init__.py")}
    return {".".join(path.parts if path.parts[0] == "tercet" else ("tercet", *path.parts)) for path in found}


def test_every_package_on_disk_is_installed() -> None:
    assert packages_on_disk() == set(words("options", "packages"))
    assert set(words("options", "package_dir")) == {f"tercet.{name} = {name}" for name in FOLDERS}


def test_every_folder_of_modules_is_a_package() -> None:
    modules = {path.parent for room in ROOMS for path in ROOT.glob(f"{room}/**/*.py")}
    assert {folder for folder in modules if not (folder / "__init__.py").exists()} == set()


def test_every_file_that_is_not_a_module_is_package_data() -> None:
    data = {package: patterns.split(", ") for package, patterns in setup_cfg()["options.package_data"].items()}
    matched = {path for package in data for pattern in data[package] for path in folder_of(package).glob(pattern)}
    files = (path for room in ROOMS for path in ROOT.glob(f"{room}/**/*") if path.is_file())
    on_disk = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert on_disk == matched


def folder_of(package: str) -> Path:
    first, *rest = package.split(".")
    return ROOT.joinpath(*(rest if rest and rest[0] in FOLDERS else (first, *rest)))


def test_a_checkout_works_without_installation(tmp_path: Path) -> None:
    folders, *shown = ran(tmp_path, ROOT, "recipes", "ls").splitlines()
    assert folders == "2"
    assert "demo" in "".join(shown)


@pytest.mark.long
def test_the_installed_wheel_works_in_another_folder(tmp_path: Path) -> None:
    """Built, installed into an empty folder and run from another one: it lists its recipes and trains a step."""
    source, pip = tmp_path / "source", [sys.executable, "-m", "pip", "--quiet"]
    source.mkdir()  # a build leaves its traces where it runs
    for name in (*ROOMS, "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run([*pip, "wheel", source, "--no-deps", "--no-build-isolation", "-w", tmp_path], check=True)
    (wheel,) = tmp_path.glob("tercet-*.whl")
    subprocess.run([*pip, "install", wheel, "--no-deps", "--target", tmp_path / "site"], check=True)

    def tercet(*words: str) -> list[str]:
        return ran(tmp_path, tmp_path / "site", *words).splitlines()

    folders, *shown = tercet("recipes", "ls", "--json")
    assert folders == "1"
    assert "trimodal" in "".join(shown)
    tercet("data", "generate", "--out", "data/builtin", "train=32", "val=16", "combinations=4")
    tercet("train", "demo", "steps=1", "batch_size=16", "eval.candidates=8")
    assert len((tmp_path / "runs" / "demo" / "metrics.jsonl").read_text().splitlines()) == 1


def ran(folder: Path, path: Path, *words: str) -> str:
    """What the command prints in a folder, with the packages under a path; first, in how many folders tercet lies."""
    environment = os.environ | {"PYTHONPATH": str(path), "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", COMMAND_WITHOUT_EDITABLE, *words]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
