"""LAION-CLAP's towers without a folder (Wu et al. 2023): HTSAT and RoBERTa, with the projections of the joint space.

`laion_clap:HTSAT-tiny`, `-base` and `-large` have the sizes that the authors' code gives them, and random weights.
`laion_clap:roberta` has the size of RoBERTa-base, and its weights with `pretrained`. Options set other sizes, by their
names in transformers. The norms of RoBERTa add 1e-12 to the variance, as transformers' CLAP does; the authors add 1e-5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapTextConfig,
    ClapTextModelWithProjection,
)

from tercet.data_pipelines.sample import TextIntake
from tercet.errors import UserError
from tercet.models.audio_features import build_front_end
from tercet.models.config import TowerConfig
from tercet.models.encoder_names import check_laion_clap_name
from tercet.models.encoders.hf.clap import ClapAudio
from tercet.models.encoders.hf.folder import load, read_config, read_tokenizer
from tercet.models.encoders.hf.laion_clap_sizes import AUDIO_SIZES, CONTEXT, LOWEST, SIZES, TEXT_SIZES, tokenizer_of
from tercet.models.encoders.hf.parts import PARTS
from tercet.models.encoders.hf.pooling import pooled_by_model
from tercet.models.encoders.hf.text import HfText
from tercet.models.encoders.hf.tokens import PaddingTokenizer, context_of
from tercet.models.encoders.hf.tower import check_options
from tercet.models.encoders.text import TextEncoder
from tercet.plural import number_of

USUAL = build_front_end("clap48k64").spectrum


def laion_clap_audio(name: str, config: TowerConfig) -> ClapAudio:
    check_laion_clap_name("audio", name)
    known = ("fusion", *AUDIO_SIZES)
    check_options("audio", config.encoder, config.options, known)
    sizes = SIZES[name] | config.options
    fusion = bool(sizes.pop("fusion", False))
    if fusion:
        sizes |= {"enable_fusion": True, "fusion_type": "aff_2d"}
    with _checked_sizes("audio"):
        found = ClapAudioConfig(**sizes)
        stages = len(found.depths)
        if len(found.num_attention_heads) < stages:
            heads = number_of(len(found.num_attention_heads), "number")
            raise ValueError(f"num_attention_heads has {heads}, but depths has {stages}")
        found.hidden_size, found.num_hidden_layers = found.patch_embeds_hidden_size << (stages - 1), stages
        model = ClapAudioModelWithProjection(found)
    norm = model.audio_model.audio_encoder.batch_norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(USUAL.mean)  # its input is in decibels, and the statistics may stay
    norm.running_var.fill_(USUAL.std**2)
    extractor = ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc", frequency_min=LOWEST)
    return ClapAudio(config, extractor, model, PARTS["audio", "ClapAudioModelWithProjection"], known)


class LaionClapText(HfText):
    """RoBERTa with its pooler, and two layers that project into the joint space."""

    def __init__(self, name: str, config: TowerConfig) -> None:
        TextEncoder.__init__(self, config)
        check_laion_clap_name("text", name)
        options = config.options
        check_options("text", config.encoder, options, ("context", "tokenizer", "pretrained", *TEXT_SIZES))
        sizes: dict[str, Any] = {key: value for key, value in options.items() if key in TEXT_SIZES}
        with _checked_sizes("text"):
            self.model = ClapTextModelWithProjection(ClapTextConfig(**sizes))
        if pretrained := options.get("pretrained"):
            _load_roberta(self.model.text_model, str(pretrained))
        part = PARTS["text", "ClapTextModelWithProjection"]
        self.pool, self.part, self.projects = pooled_by_model(part.vector), part.kind, part.projects
        self.width = self.model.config.projection_dim
        tokenizer = read_tokenizer(tokenizer_of(options))
        key = "context_length" if config.context_length else "options.context"
        longest = context_of(key, tokenizer_of(options), tokenizer, self.model, None)
        wanted = config.context_length or options.get("context") or min(CONTEXT, longest)
        padding = PaddingTokenizer(tokenizer, context_of(key, tokenizer_of(options), tokenizer, self.model, wanted))
        self.intake, self.padding = TextIntake(padding), padding.padding


def _load_roberta(text_model: Any, name: str) -> None:
    """The weights of a RoBERTa without its pooler, which starts at random, as that of the authors."""
    where = "model.text.options.pretrained"
    roberta = load(where, name, "RobertaModel", read_config(where, name), unused=("pooler",))
    try:
        text_model.load_state_dict(roberta.state_dict(), strict=False)
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{where}: the weights of `{name}` do not fit the tower: {cause}; choose a RoBERTa of the same size"
        ) from error


@contextmanager
def _checked_sizes(modality: str) -> Iterator[None]:
    """Names the options if a value has a wrong type, or if sizes do not fit each other."""
    try:
        yield
    except (StrictDataclassError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"model.{modality}.options: {cause}; correct it, or leave it out") from error
