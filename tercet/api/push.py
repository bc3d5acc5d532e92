"""`tercet.push`: sends an exported folder to a hub, or lists what it would send."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.export import size_of, sizes
from tercet.configs.yaml_text import read_yaml
from tercet.errors import UserError
from tercet.models.encoder_names import LOCAL, OPEN_CLIP_CONFIG
from tercet.models.interop.folder import CONFIG
from tercet.training.card.card import CARD

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Push:
    """The files and where they go. `url` is that of the commit; None if nothing was sent."""

    folder: Path
    repository: str
    endpoint: str
    private: bool
    files: dict[str, int]
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "repository": self.repository,
            "endpoint": self.endpoint,
            "private": self.private,
            "files": self.files,
            "sent": self.url is not None,
            "url": self.url,
        }

    def __str__(self) -> str:
        total, kind = size_of(sum(self.files.values())), "private" if self.private else "public"
        listed = [f"  {name}  {size_of(size)}" for name, size in self.files.items()]
        target = f"{self.endpoint}/{self.repository} ({kind}), {total} in {len(listed)} files"
        if self.url is None:
            return "\n".join([f"would send to {target}:", *listed, "nothing was sent; add --send"])
        return "\n".join([f"sent to {target}:", *listed, self.url])


def push(
    folder: str | os.PathLike[str],
    repository: str,
    *,
    send: bool = False,
    private: bool = True,
    token: str | None = None,
) -> Push:
    """Sends the files of an exported folder to OWNER/NAME on a hub, in one commit, if `send` is set.

    The repository is made if it does not exist, and is private unless `private` is False. A repository that is public
    is refused if `private` is set. The token is `token`, that of the environment (HF_TOKEN), or that of `hf auth
    login`.
    """
    import huggingface_hub.constants as hub

    source = Path(folder)
    _check(source, repository)
    planned = Push(source, repository, hub.ENDPOINT, private, sizes(source))
    return _sent(planned, token) if send else planned


def _check(folder: Path, repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if not (folder / CARD).is_file():
        raise UserError(f"{folder} has no {CARD}; name a folder that `tercet export` wrote")
    for name in _towers(folder):
        if Path(name).exists():
            raise UserError(
                f"{folder} needs the folder {name} of this machine for a tower, so nobody else could load it; train "
                "and export with the name that the tower has on the hub"
            )
    if repository.count("/") != 1:
        raise UserError(f"`{repository}` is not the name of a repository; write OWNER/NAME")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"`{repository}` is not the name of a repository: {_line(error)}") from None


def _towers(folder: Path) -> Iterator[str]:
    """What the configs in a folder name as the place of a tower."""
    if (folder / CONFIG).is_file():
        model = read_yaml((folder / CONFIG).read_text(encoding="utf-8"), CONFIG).get("model") or {}
        towers = [tower for tower in model.values() if isinstance(tower, dict)]
        yield from (str(tower.get("encoder")).partition(":")[2].removeprefix(LOCAL) for tower in towers)
    if (folder / OPEN_CLIP_CONFIG).is_file():
        text = json.loads((folder / OPEN_CLIP_CONFIG).read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
        yield from filter(None, [text.get("hf_model_name")])


def _sent(planned: Push, token: str | None) -> Push:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    known = token or get_token()
    if not known:
        raise UserError("there is no token for the hub; set HF_TOKEN, or run `hf auth login`")
    hub = HfApi(endpoint=planned.endpoint, token=known)
    try:
        hub.create_repo(planned.repository, private=planned.private, exist_ok=True)
        if planned.private and not hub.repo_info(planned.repository).private:
            raise UserError(f"{planned.repository} is public; add --public to send to it, or name another repository")
        operations = list(_operations(planned))
        message = f"Add the model in {planned.folder.name}"
        done = hub.create_commit(planned.repository, operations, commit_message=message)
    except HfHubHTTPError as error:
        raise UserError(f"{planned.endpoint} refused {planned.repository}: {_line(error)}") from error
    except (HTTPError, OSError, ValueError) as error:
        raise UserError(f"{planned.repository} could not be sent to {planned.endpoint}: {_line(error)}") from error
    return Push(**{**vars(planned), "url": str(done.commit_url)})


def _operations(planned: Push) -> Iterator[Any]:
    from huggingface_hub import CommitOperationAdd

    for name in planned.files:
        path = planned.folder / name
        content = _of_the_hub(path, planned) if name == OPEN_CLIP_CONFIG else path
        yield CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)


def _of_the_hub(path: Path, planned: Push) -> bytes | Path:
    """open_clip's config. From a hub, open_clip reads the tokenizer of the repository that the config names."""
    config = json.loads(path.read_text(encoding="utf-8"))
    text = config["model_cfg"]["text_cfg"]
    if "hf_tokenizer_name" not in text or not any(name in planned.files for name in TOKENIZERS):
        return path
    text["hf_tokenizer_name"] = planned.repository
    return (json.dumps(config, indent=2) + "\n").encode()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
