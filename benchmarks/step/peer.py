"""The peer's side: `train_one_epoch` of open_clip_train, in the same process on the same batch."""

from argparse import Namespace
from collections.abc import Iterator
from types import SimpleNamespace

import open_clip
import torch
from open_clip_train.params import parse_args
from open_clip_train.scheduler import const_lr
from open_clip_train.train import train_one_epoch
from torch import Tensor, nn

from tercet.benchmarks.step.case import BETAS, CLIP, DECAY, EPS, LR, StepCase

PRECISION = {"fp32": "fp32", "bf16": "amp_bf16"}


class OneBatch:
    """A data loader for open_clip_train that yields the same batch of normalised images every time."""

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        self.batch = (images, texts)
        self.num_batches, self.num_samples = 1, len(images)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.num_batches):
            yield self.batch


class PeerSide:
    """The model, loss, optimizer and schedule, as `main` of open_clip_train builds them."""

    def __init__(self, case: StepCase) -> None:
        precision = PRECISION[case.precision]
        self.arguments = arguments(case)
        self.model: nn.Module = open_clip.create_model(
            case.model, precision=precision, device=case.device, output_dict=True, **case.options
        )
        self.optimizer = optimizer(self.model)
        self.schedule = const_lr(self.optimizer, LR, 0, 1)
        self.loss = open_clip.create_loss(self.arguments)
        visual = self.model.visual
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (visual.image_mean, visual.image_std))
        images = ((case.images().float() / 255 - mean) / std).contiguous()
        self.loader = OneBatch(images.to(case.device), case.texts().to(case.device))

    def __call__(self, steps: int) -> None:
        self.loader.num_batches, self.loader.num_samples = steps, steps * self.arguments.batch_size
        data = {"train": SimpleNamespace(set_epoch=lambda epoch: None, dataloader=self.loader)}
        model, loss, scaler, distilled = self.model, self.loss, None, None
        train_one_epoch(model, data, loss, 0, self.optimizer, scaler, self.schedule, distilled, self.arguments)


def arguments(case: StepCase) -> Namespace:
    words = ["--model", case.model, "--batch-size", str(case.batch), "--precision", PRECISION[case.precision]]
    parsed: Namespace = parse_args([*words, "--grad-clip-norm", str(CLIP), "--lr-scheduler", "const"])
    alone = {"device": str(case.device), "rank": 0, "local_rank": 0, "world_size": 1, "distributed": False}
    return Namespace(**{**vars(parsed), **alone, "distill": False, "wandb": False})


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with the two groups of open_clip_train, which applies no weight decay to vectors and scalars."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    spared, rest = [p for p in parameters if p.ndim < 2], [p for p in parameters if p.ndim >= 2]
    groups = [{"params": spared, "weight_decay": 0.0}, {"params": rest, "weight_decay": DECAY}]
    return torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
