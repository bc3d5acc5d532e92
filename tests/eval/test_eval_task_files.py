"""Task files of users: each mistake is one line that names the file, the key and the fix."""

from pathlib import Path

import pytest

from tercet.command import main
from tercet.errors import UserError
from tercet.eval.load_tasks import load_task, load_tasks

GOOD = "kind: zero_shot\ntitle: Boats\nwhat: class\nclasses: {boat: a boat, car: a car}\ntemplates: ['a {class}']\n"
MISTAKES = {
    "an unknown kind": (GOOD.replace("zero_shot", "zeroshot"), "unknown kind of task `zeroshot`; did you mean `zero_"),
    "no kind": (GOOD.replace("kind: zero_shot\n", ""), "`kind` is missing; "),
    "an unknown key": (GOOD + "lable: class\n", "unknown key `lable`; did you mean `label`"),
    "a missing key": (GOOD.replace("what: class\n", ""), "`what` is missing: what the classes are"),
    "a key of a wrong type": (GOOD.replace("{boat: a boat, car: a car}", "[boat, car]"), "`classes` is `["),
    "a template without a class": (GOOD.replace("a {class}", "a {klass}"), "has no place for the class; add {class}"),
    "a slot without words": (GOOD.replace("a {class}", "a {size} {class}"), "`fill` has no words for {size}"),
    "a wrong modality": (GOOD + "modalities: [picture]\n", "`picture` is not a modality that captions describe; "),
    "a file that is not there": ("extends: boat.yaml\n", "the task file boat.yaml does not exist; did you mean `boats"),
    "a task that is not there": ("extends: retrievl\n", "unknown task `retrievl`; did you mean `retrieval`"),
    "a list of parents": ("extends: [boats.yaml]\n", "`extends` is `['boats.yaml']`; give the name or the file of one"),
    "itself": ("extends: mine.yaml\n", "extends itself through mine.yaml"),
    "a name": (GOOD + "name: x\n", "the name of a task is that of its file; leave out `name`"),
    "no mapping": ("- retrieval\n", "mine.yaml must hold a mapping with a `kind`"),
    "nothing": ("", "mine.yaml must hold a mapping with a `kind`"),
    "no YAML": ("kind: [", "task `mine.yaml`"),
    "a key twice": (GOOD + "title: Cars\n", "duplicate key `title`"),
    "a group without tasks": ("kind: group\n", "`tasks` is missing: names of tasks"),
    "an empty group": ("kind: group\ntasks: []\n", "`tasks` is `[]`, but"),
    "a group of itself": ("kind: group\ntasks: [mine.yaml]\n", "group `mine` contains itself, through mine"),
    "a group of nothing": ("kind: group\ntasks: [no.yaml]\n", "the task file no.yaml does not exist"),
    "two tasks of one name": (
        "kind: group\ntasks: [boats.yaml, other/boats.yaml]\n",
        "two different tasks are named `boats`, so their results would have the same names; rename one",
    ),
    "a wrong average": ("kind: group\ntasks: [retrieval]\naverage: 3\n", "`average` is `3`, but"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("boats.yaml").write_text(GOOD, encoding="utf-8")
    Path("other").mkdir()
    Path("other/boats.yaml").write_text(f"{GOOD}articles: false\n", encoding="utf-8")
    text, message = MISTAKES[mistake]
    Path("mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_tasks(["mine.yaml"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if mistake == "an unknown key":
        assert main(["eval", "nowhere", "mine.yaml", "--data", "boats.csv"]) == 2
        assert capsys.readouterr().err == f"tercet: {caught.value}\n"  # before it looks for the model


def test_paths_in_a_file_are_relative_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks" / "more").mkdir(parents=True)
    (tmp_path / "tasks" / "boats.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "tasks" / "more" / "night.yaml").write_text("extends: ../boats.yaml\ntitle: Night\n", encoding="utf-8")
    group = "kind: group\ntasks: [boats.yaml, more/night.yaml, retrieval]\n"
    (tmp_path / "tasks" / "harbour.yaml").write_text(group, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert [task.title for task in load_tasks(["tasks/harbour.yaml"])] == ["Boats", "Night", "Retrieval"]
    assert load_task("tasks/more/night.yaml").name == "night"
