"""The alarm for collapsed features: once for each term, on what the teacher's outputs tell about a sample."""

import pytest
import torch

from tercet.models.losses.terms import Outcome
from tercet.training.loop.collapse import CollapseAlarm


def outcome(progress: float, **information: float) -> Outcome:
    """Of a step before which this share of the stage was done."""
    zero = torch.zeros(())
    measures = {term: {"information": torch.tensor(value)} for term, value in information.items()}
    return Outcome(zero, {}, {}, {}, {}, {}, {}, {}, {}, {**measures, "image-text": {}}, progress)


def test_it_warns_once_for_each_term(capsys: pytest.CaptureFixture[str]) -> None:
    alarm = CollapseAlarm()
    alarm.look(1, outcome(0.0, silc=0.0))  # a new projector tells little
    alarm.look(200, outcome(0.2, silc=0.02, other=0.5))
    assert capsys.readouterr().err == ""
    alarm.look(201, outcome(0.201, silc=0.004, other=0.5))
    alarm.look(202, outcome(0.202, silc=0.003, other=0.5))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "tercet: step 201: warning: the term `silc` collapses: the teacher's outputs are almost the same for all "
        "samples (information is 0.004; 1 if they tell all apart). Lower optimizer.lr, "
    )
    alarm.look(203, outcome(0.203, silc=0.003, other=float("nan")))
    assert "the term `other` collapses" in capsys.readouterr().err
