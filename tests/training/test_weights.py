"""Whether weights are to be had is asked of the very files that would be fetched."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
from huggingface_hub import hf_hub_url

from tercet.training.proposal import weights


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The addresses that were asked for, none of which answers; nothing is in the cache."""
    urls: list[str] = []
    monkeypatch.setattr(weights, "_answers", urls.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return urls


def test_open_clip_weights_are_looked_for_at_the_urls_that_open_clip_downloads(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(repo_id: str, filename: str, **_: Any) -> None:
        fetched.append(hf_hub_url(repo_id, filename))
        raise OSError

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", fetch)
    for name, tag in open_clip.list_pretrained():
        asked.clear()
        fetched.clear()
        with pytest.raises(FileNotFoundError):
            open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, tag))
        assert not weights.obtainable(f"open_clip:{name}/{tag}")
        assert fetched[-1] in asked, (name, tag)
        assert set(asked) <= set(fetched), (name, tag)


@pytest.mark.parametrize("init", ["open_clip:ViT-B-32/nobody", "runs/nowhere", "hf:models/of/mine", "hf:no folder"])
def test_impossible_names_of_weights_send_no_request(init: str, asked: list[str]) -> None:
    assert not weights.obtainable(init)
    assert asked == []
