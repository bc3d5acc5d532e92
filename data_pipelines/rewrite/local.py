"""A language model of transformers in a folder, such as one that `save_pretrained` wrote."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.errors import UserError


class LocalModel:
    """Answers several prompts at once. The draws depend on the prompts and the seed. Code in the folder never runs."""

    def __init__(self, folder: str, config: RewriteConfig) -> None:
        if find_spec("transformers") is None:
            raise UserError(f"{folder}: a local model needs transformers; pip install 'tercet[huggingface]'")
        self.batch, self.name = config.concurrency, folder
        files = sorted((file.name, file.stat().st_size) for file in Path(folder).iterdir())
        self.identity: dict[str, object] = {"files": files, "seed": config.seed}
        self.identity |= {"temperature": config.temperature, "max_tokens": config.max_tokens}
        self._config = config
        self._tokenizer, self._model = _loaded(folder)

    def complete(self, prompts: Sequence[str]) -> list[str]:
        tokens = self._tokenizer(list(map(self._chat, prompts)), return_tensors="pt", padding=True)
        tokens = tokens.to(self._model.device)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(
                xxh3_64_intdigest("\0".join(prompts).encode("utf-8", "surrogatepass"), self._config.seed) >> 1
            )
            answers = self._model.generate(**tokens, **self._sampling)
        start = tokens["input_ids"].shape[1]
        texts: list[str] = self._tokenizer.batch_decode(answers[:, start:], skip_special_tokens=True)
        return texts

    @property
    def _sampling(self) -> dict[str, Any]:
        draws = {"do_sample": True, "temperature": self._config.temperature} if self._config.temperature else {}
        return {
            "do_sample": False, "max_new_tokens": self._config.max_tokens,
            "pad_token_id": self._tokenizer.pad_token_id, **draws,
        }  # fmt: skip

    def _chat(self, prompt: str) -> str:
        """The prompt as the model's own template writes it, if it has one."""
        if not self._tokenizer.chat_template:
            return prompt
        turn = [{"role": "user", "content": prompt}]
        written: str = self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return written


def _loaded(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **own)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **own)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(
            f"{folder} has no causal language model with its tokenizer that transformers can read: {why}"
        ) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
