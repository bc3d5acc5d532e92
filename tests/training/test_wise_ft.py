"""The summary of WiSE-FT: the best α, the metric that chose it, and how to keep the model."""

from pathlib import Path

import pytest

from tercet.configs.base import build
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.result import Result
from tercet.training.evaluation.wise_ft import InterpolatedModel, summary


def place(alpha: float, *values: float) -> InterpolatedModel:
    return InterpolatedModel(
        alpha, [Result(f"{value}", "R@1", value, 0, 1, 0, 9, "retrieval", "Retrieval") for value in values]
    )


def test_the_summary_names_the_best_alpha_and_the_metric_that_chose_it() -> None:
    places = [place(0, 0.2, 0.3), place(0.5, 0.5, 0.4), place(1, 0.4, 0.4)]
    words = summary(places, Path("runs/mine"), kept=False)["WiSE-FT"]
    assert words.startswith("best at α = 0.5 with 45.0 (mean R@1 of Retrieval; 25.0 at 0, 40.0 at 1); ")
    assert "α was chosen on the same data, so the score is too high" in words
    assert words.endswith("; eval.keep_wise_ft=true writes the model")
    assert summary(places, Path("runs/mine"), kept=True)["WiSE-FT"].endswith("; the model is in runs/mine/wise_ft")
    assert summary([], Path("runs/mine"), kept=False) == {}


def test_null_means_no_interpolation_and_nothing_to_keep() -> None:
    assert build(EvalConfig, {"wise_ft": None}, lambda key: "r").wise_ft == ()
    with pytest.raises(UserError, match="`keep_wise_ft` needs interpolations to choose from"):
        build(EvalConfig, {"keep_wise_ft": True}, lambda key: "r")
