"""The encoder families of each modality. A library is imported only if a recipe uses its family."""

from tercet.models.config import TowerConfig
from tercet.models.encoder_names import check_laion_clap_name
from tercet.models.encoders.encoder import FAMILIES, Encoder, family_of
from tercet.models.encoders.hf.hub import fetched


@FAMILIES["image"].register("open_clip")
def _open_clip_image(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.open_clip_towers import OpenClipImage

    return OpenClipImage(name, config)


@FAMILIES["text"].register("open_clip")
def _open_clip_text(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.open_clip_towers import OpenClipText

    return OpenClipText(name, config)


@FAMILIES["image"].register("timm")
def _timm_image(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.timm_towers import TimmImage

    return TimmImage(name, config)


@FAMILIES["audio"].register("timm")
def _timm_audio(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.timm_towers import NaFlexAudio, TimmAudio

    return NaFlexAudio(name, config) if name.startswith("naflexvit") else TimmAudio(name, config)


@FAMILIES["image"].register("hf")
def _hf_image(name: str, config: TowerConfig) -> Encoder:
    with fetched("model.image.encoder", name, f"`hf:{name}`"):
        from tercet.models.encoders.hf.image import HfImage

        return HfImage(name, config)


@FAMILIES["audio"].register("hf")
def _hf_audio(name: str, config: TowerConfig) -> Encoder:
    with fetched("model.audio.encoder", name, f"`hf:{name}`"):
        from tercet.models.encoders.hf.audio_towers import audio_tower

        return audio_tower(name, config)


@FAMILIES["text"].register("hf")
def _hf_text(name: str, config: TowerConfig) -> Encoder:
    with fetched("model.text.encoder", name, f"`hf:{name}`"):
        from tercet.models.encoders.hf.text import HfText

        return HfText(name, config)


@FAMILIES["audio"].register("laion_clap")
def _laion_clap_audio(name: str, config: TowerConfig) -> Encoder:
    with fetched("model.audio.encoder", "", f"`laion_clap:{name}`"):
        from tercet.models.encoders.hf.laion_clap import laion_clap_audio

        return laion_clap_audio(name, config)


@FAMILIES["text"].register("laion_clap")
def _laion_clap_text(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.hf.laion_clap_sizes import tokenizer_of

    tokenizer = tokenizer_of(config.options)
    with fetched("model.text.encoder", tokenizer, f"the tokenizer `{tokenizer}` of `laion_clap:{name}`"):
        from tercet.models.encoders.hf.laion_clap import LaionClapText

        return LaionClapText(name, config)


@FAMILIES["audio"].register("fused")
def _fused_audio(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.fused import FusedAudio

    return FusedAudio(name, config)


@FAMILIES["image"].register("small")
def _small_image(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.small import SmallImage, small_options

    return SmallImage(config, **small_options("image", name, config))


@FAMILIES["audio"].register("small")
def _small_audio(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.small import SmallAudio, small_options

    return SmallAudio(config, **small_options("audio", name, config))


@FAMILIES["text"].register("small")
def _small_text(name: str, config: TowerConfig) -> Encoder:
    from tercet.models.encoders.small import SmallText, small_options

    return SmallText(config, **small_options("text", name, config))


def check_encoder(modality: str, config: TowerConfig) -> None:
    """Rejects names that the family does not have, without building the tower. Loading checks `hf:` names."""
    _, name = family_of(modality, config)
    family = config.encoder.partition(":")[0]
    if family == "open_clip":
        from tercet.models.encoders.open_clip_models import check_name

        check_name(f"model.{modality}.encoder", name)
    if family == "timm":
        from tercet.models.encoders.timm_towers import check_timm_name

        check_timm_name(modality, name)
    if family == "laion_clap":
        check_laion_clap_name(modality, name)
    if family == "small":
        from tercet.models.encoders.small import small_options

        small_options(modality, name, config)
