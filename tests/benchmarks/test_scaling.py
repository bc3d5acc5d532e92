"""`tercet bench scaling`: equal compute, runs that are not repeated, and the page with its plots."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tercet.benchmarks import scaling
from tercet.benchmarks.scaling import arms
from tercet.benchmarks.scaling.arms import METHODS, R1, SAMPLES, STEPS, Cell
from tercet.command import main
from tercet.configs.layers import Layer
from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.training.loop.flops import count_flops, count_step
from tercet.training.recipe import layered

MADE: list[tuple[str, int]] = []
CELL = Cell(1.0, "small", "CLIP", 1e12, data="photos.csv")


@dataclass(frozen=True)
class Fake(Cell):
    """R@1 grows with the share of the data."""

    def run(self, seed: int) -> dict[str, float]:
        MADE.append((self.name, seed))
        return {R1: 50 * self.share + seed, STEPS: 10.0, SAMPLES: 640.0}


def rows(capsys: Any, *arguments: str) -> dict[str, dict[str, Any]]:
    assert main(["bench", "scaling", "--json", *arguments]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


def test_finished_runs_are_not_repeated_and_the_page_draws_all(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(scaling, "Cell", Fake)
    MADE.clear()
    out = ["--out", str(tmp_path), "--towers", "small,timm:<b>", "--methods", "CLIP,SLIP"]
    first = rows(capsys, *out, "--shares", "0.5")
    assert len(MADE) == 4
    assert first["R@1 of SLIP, small, 0.5 of the data"]["ours"] == 25
    found = rows(capsys, *out, "--shares", "0.5,1", "--seeds", "2")
    assert len(MADE) == 16
    assert len(set(MADE)) == 16
    assert found["R@1 of CLIP, small, 1 of the data"]["ours"] == 50.5
    assert found["R@1 of CLIP, small, 1 of the data"]["values"] == [50, 51]
    page = (tmp_path / "scaling.html").read_text(encoding="utf-8")
    assert "<b>" not in page.partition("<main>")[2].partition("data-last")[0]
    assert "Tower: timm:&lt;b&gt;" in page
    assert page.count("<svg viewBox") == 4, "one for each tower and each method"
    curves = re.findall(r'<path class="line-\d" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', page)
    assert len(curves) == 8
    assert all(float(x) < float(u) and float(y) > float(v) for x, y, u, v in curves), "up and to the right"


def flops_of(method: str) -> tuple[int, dict[str, int]]:
    """What a step computes for one sample, and what the count of plain towers says of each."""
    config = layered(arms.RECIPE, [Layer("test", Cell(1.0, "small", method, 1e12, data="photos.csv").settings())])
    model = build_model(config.model, config.terms, 0)
    plain = {name: intake for name, intake in model.intakes.items() if name in ("image", "text")}
    counted = count_flops(model, plain)
    views = {view: model.intakes["image"] for view in arms.VIEWS if view in model.fields}
    return count_step(model, {**plain, **views}), {name: counted.training({name: 1}) for name in plain}


def test_steps_of_all_methods_add_up_to_the_same_compute() -> None:
    """SLIP embeds three pictures. FLIP leaves out patches, but the convolutions of `small:image` see all of them."""
    found = {method: flops_of(method) for method in METHODS}
    for method in ("CLIP", "CLIP + augmentation"):
        assert found[method][0] == sum(found[method][1].values())
    assert 0.9 < found["FLIP"][0] / found["CLIP"][0] < 0.99
    further = found["SLIP"][0] - found["CLIP"][0] - 2 * found["CLIP"][1]["image"]
    assert 0 < further < 0.1 * found["CLIP"][0], "the projector"
    for method, (step, _) in found.items():
        cell = Cell(1.0, "small", method, 1e12, data="photos.csv")
        assert cell.steps() * cell.batch_size * step == pytest.approx(1e12, rel=0.02)


def test_a_cell_trains_on_its_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    monkeypatch.setattr(arms, "WORLD", {**arms.WORLD, "train": 60, "val": 20, "size": 32})
    assert Cell(0.5, "small", "FLIP", 1).settings()["data"]["train"]["part"] == [0, 0.5]
    found = Cell(0.5, "small", "SLIP", 1, batch_size=8).run(0)
    assert found[STEPS] == 1
    assert found[SAMPLES] == 8
    assert 0 <= found[R1] <= 100
    own = CELL.settings()["data"]
    assert own["train"] == {"source": "photos.csv", "part": [0.1, 1.0]}
    assert own["val"] == {"source": "photos.csv", "part": [0, 0.1]}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--shares", "0.5,2"], "--shares: `2` is not a share"),
        (["--methods", "CLAP"], "unknown method `CLAP`; did you mean"),
        (["--towers", "smal"], "unknown tower `smal`; did you mean `small`"),
        (["--flops", "0"], "give --flops above 0"),
    ],
)
def test_mistakes_are_errors_of_one_line(option: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        scaling.read_options(option)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
