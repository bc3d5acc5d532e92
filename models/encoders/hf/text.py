"""Text towers from Hugging Face: the text halves of CLIP, SigLIP and CLAP, and any transformer that reads tokens.

Vectors do not depend on padding, because attention and pooling ignore it. The exception is SigLIP: its weights were
trained to read padding, so its texts always have the same length.

Shape letters: n rows, L tokens, D the tower's width.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import TextIntake
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoded
from tercet.models.encoders.hf.folder import load, read_config, read_tokenizer
from tercet.models.encoders.hf.parts import architecture, check_reads, load_part, part_of, width_of
from tercet.models.encoders.hf.pooling import Pool, pool_of, pooled_by_model
from tercet.models.encoders.hf.tokens import ABSENT, PaddingTokenizer, context_of, padding_id
from tercet.models.encoders.hf.tower import HfTower, check_options
from tercet.models.encoders.text import TextEncoder, longest_of


class HfText(HfTower, TextEncoder):
    """Token ids to one vector. Options: `context` in tokens and, for a single encoder, `pool`."""

    pool: Pool

    def __init__(self, name: str, config: TowerConfig) -> None:
        super().__init__(config)
        found = read_config("model.text.encoder", name)
        check_reads("text", name, found)
        part = part_of("text", found)
        check_options("text", config.encoder, config.options, ("context",) if part else ("context", "pool"))
        if part is None:
            self.model, self.pool = _single(name, found), pool_of(name, found, config.options.get("pool"))
        else:
            self.model, self.pool = load_part("model.text.encoder", name, part, found), pooled_by_model(part.vector)
        self.projects, self.part = part is not None and part.projects, part.kind if part else ""
        self.width = width_of(self.model.config, part)
        if self.part.startswith("CLIP") and config.context_length:
            self._fit_context(config.context_length)
        tokenizer = _tokenizer(name, self.model, config)
        self.intake, self.padding = TextIntake(tokenizer), tokenizer.padding

    def _fit_context(self, length: int) -> None:
        """Stretches or cuts the positions of a text half of CLIP."""
        embeddings = (self.model.text_model if self.projects else self.model).embeddings
        known = embeddings.position_embedding.weight.data
        found = self.fit_positions(known, length)
        if found is None:
            raise UserError(
                f"model.text.context_length: the {len(known)} positions of the weights cannot become {length}; set "
                f"model.text.keep_positions below {len(known) - 1}"
            )
        embeddings.position_embedding = nn.Embedding(len(found), found.shape[1], _weight=found.clone())
        embeddings.position_ids = torch.arange(length)[None]
        self.model.config.max_position_embeddings = length

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.pool(*self._run(values))

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        """The states of a single transformer or, of the halves, those of CLIP through its projection."""
        if self.part and not self.part.startswith("CLIP"):
            raise self.lacks_tokens()
        output, valid_nL = self._run(values)
        states_nLD = output.last_hidden_state
        tokens_nLD = self.model.text_projection(states_nLD) if self.projects else states_nLD
        return Encoded(self.pool(output, valid_nL), tokens_nLD, valid_nL.sum(1))

    def _run(self, values: Tensor) -> tuple[Any, Tensor]:
        """The output of the model, and which tokens exist."""
        valid_nL = values != ABSENT
        longest = longest_of(valid_nL.sum(1), values)
        valid_nL, values = valid_nL[:, :longest], values[:, :longest]
        tokens_nL = values.masked_fill(~valid_nL, self.padding)
        with plain_attention(self.model) if torch.compiler.is_exporting() else nullcontext():
            return self.model(input_ids=tokens_nL, attention_mask=valid_nL.long()), valid_nL


@contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Within it, attention is written out: torch cannot export its own attention with the position biases of T5."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _single(name: str, found: Any) -> Any:
    """A single transformer; of an encoder-decoder, the encoder."""
    found.use_cache = False  # a decoder would keep keys and values for generation
    kind = architecture(found)  # a folder may have only the encoder of T5
    kind = kind if kind.endswith("EncoderModel") else "AutoModel"
    model = load("model.text.encoder", name, kind, found, unused=("pooler",))
    return model.get_encoder() if found.is_encoder_decoder else model


def _tokenizer(name: str, model: Any, config: TowerConfig) -> PaddingTokenizer:
    tokenizer, length = read_tokenizer(name), config.context_length
    if length and model.config.model_type == "clip_text_model":
        tokenizer.model_max_length = length  # the tower has as many positions now
    filling = padding_id(tokenizer) if model.config.model_type == "siglip_text_model" else ABSENT
    key, wanted = ("context_length", length) if length else ("options.context", config.options.get("context"))
    return PaddingTokenizer(tokenizer, context_of(key, name, tokenizer, model, wanted), filling)
