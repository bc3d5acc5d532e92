"""Logs to TensorBoard: train with `log.to=[console,tensorboard]`, then run `tensorboard --logdir runs`."""

from importlib.util import find_spec

from tercet.errors import UserError
from tercet.training.hooks.hook import RunInfo, StepRecord


class TensorBoard:
    """Writes event files to the run's folder, once in `every` steps."""

    def __init__(self, every: int) -> None:
        if find_spec("tensorboard") is None:
            raise UserError("log.to: tensorboard is not installed; pip install 'tercet[tensorboard]'")
        self.every = every

    def start(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard then hides the steps after the checkpoint, which the resumed run repeats.
        folder = str(run.folder / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=run.step + 1 if run.step else None)

    def step(self, record: StepRecord) -> None:
        if record.step % self.every == 0 or record.step == record.steps:
            for name, value in record.flat().items():
                self._writer.add_scalar(name, value, record.step)

    def stop(self) -> None:
        self._writer.close()
