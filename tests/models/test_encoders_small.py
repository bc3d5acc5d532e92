"""The small towers: they notice order and position, and do not depend on other rows."""

import pickle

import torch
from torch import Tensor

from tercet.models.config import TowerConfig
from tercet.models.encoders import Encoder, build_encoder
from tercet.models.encoders.small import WordTokenizer


def build(modality: str, **options: object) -> Encoder:
    torch.manual_seed(0)
    config = TowerConfig(encoder=f"small:{modality}", features="small16k64", seconds=1.0, options=options)
    return build_encoder(modality, config).eval()


def apart(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() > 1e-2 * one.norm())


def test_tokens_are_stable_hashes() -> None:
    """The published check values of CRC-32, plus 2 for the ids of padding and start."""
    tokens = WordTokenizer(4)(["A 123456789", ""])
    assert tokens.tolist() == [[1, 0xE8B7BE43 + 2, 0xCBF43926 + 2, 0], [1, 0, 0, 0]]


def test_long_texts_are_cut_and_the_tokenizer_pickles() -> None:
    tokenize = pickle.loads(pickle.dumps(WordTokenizer(5)))
    assert tokenize(["one two three four five six"]).equal(WordTokenizer(5)(["one two three four"]))


@torch.no_grad()
def test_the_order_of_words_changes_the_vector() -> None:
    tower = build("text")
    one, other = tower(tower.intake.tokenize(["a red ring and a blue star", "a blue ring and a red star"]))
    assert apart(one, other)


@torch.no_grad()
def test_a_text_does_not_depend_on_other_rows() -> None:
    tower = build("text", context=40)
    texts = ["a red ring", "", "one " * 60]
    alone = torch.cat([tower(tower.intake.tokenize([text])) for text in texts])
    torch.testing.assert_close(tower(tower.intake.tokenize(texts)), alone, atol=1e-5, rtol=0)


def test_the_gradient_of_texts_of_any_lengths_is_the_sum_of_those_of_each() -> None:
    tower = build("text")
    tokens = tower.intake.tokenize(["a red ring and a blue star", "", "a red ring"])
    slope = torch.randn(3, tower.width, generator=torch.Generator().manual_seed(0))
    encoded, weights = tower.tokens(tokens), [*tower.parameters()]
    together = torch.autograd.grad((encoded.vectors * slope).sum(), weights)
    parts = [torch.autograd.grad((tower(tokens[[row]]) * slope[row]).sum(), weights) for row in range(3)]
    for found, *alone in zip(together, *parts, strict=True):
        assert torch.allclose(found, sum(alone), rtol=1e-5, atol=1e-6 * float(found.abs().max()))
    padding = torch.arange(encoded.tokens.shape[1]) >= encoded.counts[:, None]
    assert encoded.counts.tolist() == [8, 1, 4]
    assert not encoded.tokens[padding].any()


@torch.no_grad()
def test_a_mirrored_image_has_another_vector() -> None:
    tower, picture = build("image"), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    picture[..., 16:32, 4:20] = 255  # the shift is a multiple of all strides, so only the positions differ
    assert apart(tower(picture), tower(picture.roll(32, dims=-1)))


@torch.no_grad()
def test_an_image_does_not_depend_on_other_rows() -> None:
    tower = build("image")
    pictures = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    tower.train()
    alone = torch.cat([tower(picture[None]) for picture in pictures])
    torch.testing.assert_close(tower(pictures), alone, atol=1e-5, rtol=0)
