"""An exported folder goes to a hub only on demand, privately, in one commit. The hub here is on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as constants
import pytest

import tercet
from tercet.command import main
from tercet.errors import UserError
from tests.tercet.api.hub import Hub, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield found


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    return tercet.export(home / "exported", home / "to_push").folder


def test_nothing_is_sent_unless_asked_for(hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(folder), "me/boats"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"would send to {hub.url}/me/boats (private), ")
    assert "  model.safetensors  " in printed
    assert printed.endswith("nothing was sent; add --send\n")
    assert hub.paths == []


def test_sent_files_are_those_of_the_folder(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["push", str(folder), "me/boats", "--send", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sent"], found["private"], found["url"]) == (True, True, f"{hub.url}/me/boats/commit/1")
    assert hub.files["me/boats"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.private == {"me/boats": True}
    assert hub.tokens == {"Bearer hf_secret"}
    assert sum("/commit/" in path for path in hub.paths) == 1


def test_a_public_repository_gets_files_only_if_that_is_asked_for(hub: Hub, folder: Path) -> None:
    hub.private["me/boats"] = False
    with pytest.raises(UserError, match="me/boats is public; add --public to send to it, or name another repository"):
        tercet.push(folder, "me/boats", send=True, token="hf_x")
    assert hub.files == {}
    done = tercet.push(folder, "me/boats", send=True, private=False, token="hf_x")
    assert done.files.keys() == hub.files["me/boats"].keys()


def test_mistakes_are_one_line_each(hub: Hub, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no token for the hub; set HF_TOKEN, or run `hf auth login`"):
        tercet.push(folder, "me/boats", send=True)
    with pytest.raises(UserError, match=r"refused me/boats: .*401") as caught:
        tercet.push(folder, "me/boats", send=True, token="wrong")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"has no README\.md; name a folder that `tercet export` wrote"):
        tercet.push(tmp_path, "me/boats")
    with pytest.raises(UserError, match="`boats` is not the name of a repository; write OWNER/NAME"):
        tercet.push(folder, "boats")
    with pytest.raises(UserError, match=r"`me/bo\.\.ats` is not the name of a repository: "):
        tercet.push(folder, "me/bo..ats")
    (tmp_path / "README.md").write_text("# A model\n")
    place = tmp_path / "transformer"
    place.mkdir()
    for name, text in (
        ("config.yaml", f"model: {{dim: 8, text: {{encoder: 'hf:{place}'}}}}"),
        ("open_clip_config.json", json.dumps({"model_cfg": {"text_cfg": {"hf_model_name": str(place)}}})),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=r"needs the folder .*transformer of this machine for a tower"):
            tercet.push(tmp_path, "me/boats")
        (tmp_path / name).unlink()
    assert hub.files == {}


def test_open_clip_finds_its_tokenizer_in_the_repository(hub: Hub, tmp_path: Path) -> None:
    config = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "/somewhere/else"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "README.md").write_text("# A model\n")
    tercet.push(tmp_path, "me/plain", send=True, token="hf_x")
    assert json.loads(hub.files["me/plain"]["open_clip_config.json"]) == config
    (tmp_path / "tokenizer.json").write_text("{}")
    tercet.push(tmp_path, "me/words", send=True, token="hf_x")
    sent = json.loads(hub.files["me/words"]["open_clip_config.json"])
    assert sent["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "me/words"
    assert json.loads((tmp_path / "open_clip_config.json").read_text()) == config
