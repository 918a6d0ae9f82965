"""The end of a training: measured by the best model, thresholds in the bundle, a report; and stopped before it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import Settings, draw_images, finish_group, flags, spec_of

import kinsight
from kinsight.errors import DataError, InterruptedRun, SpecError
from kinsight.models import load_header
from kinsight.training import final
from kinsight.training.final import conclude


@pytest.fixture
def spec(settings: Settings, image_folder: Path) -> dict[str, Any]:
    tree = spec_of(settings) | {"steps": 6, "report": {"map": "pca"}}
    tree["data"]["validation"] = {"path": str(image_folder / "validation/list.txt")}
    return tree


def page(spec: dict[str, Any]) -> str:
    return (Path(spec["output"]) / "report/index.html").read_text(encoding="utf-8")


def summary(spec: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(spec["output"]) / "run.json").read_text())


def test_the_same_numbers_as_an_evaluation_of_the_bundle(spec: dict[str, Any], tmp_path: Path) -> None:
    kinsight.train(spec)
    measured = summary(spec)["validation"]
    evaluated = kinsight.evaluate(
        {"bundle": spec["output"], "data": spec["data"]["validation"], "output": str(tmp_path / "out"), "workers": 0,
         "device": "cpu", "write_thresholds": False, "report": None}
    ).metrics  # fmt: skip
    assert measured["metrics"] == evaluated
    assert measured["metrics"]["recall@1"] == pytest.approx(summary(spec)["position"]["best"])
    text = page(spec)
    for name in ("loss", "validation", "rate", "similarities"):
        assert f'<script type="application/json" id="{name}">' in text
    assert "data:image/" in text and "by the best model" in text


@pytest.mark.parametrize(
    ("steps", "settings_", "place"),
    [
        (6, {"every_steps": 3}, "after step {step}"),
        (2, {"every_epochs": 1}, "after step {step}"),  # ends within the first epoch of four steps
        (4, {"every_epochs": 1}, "after epoch 1"),
        (4, {"times": 2}, "after step {step}"),
    ],
)
def test_the_best_model_is_said_to_be_where_it_was(
    steps: int, settings_: dict[str, int], place: str, spec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = kinsight.train(spec | {"steps": steps, "validate": settings_, "report": {"map": "none"}})
    assert result.best_step == summary(spec)["position"]["best_step"] and 0 < (result.best_step or 0) <= steps
    place = place.format(step=result.best_step)
    assert f"best        recall@1 {result.best:.4f} {place}\n" in capsys.readouterr().err
    assert place in page(spec)


def test_without_thresholds_and_report_nothing_is_measured_at_the_end(spec: dict[str, Any], tmp_path: Path) -> None:
    spec["data"]["validation"] = {"path": str(draw_images(tmp_path / "many", classes=20, each=5, seed=3))}
    kinsight.train(spec | {"report": None, "validate": {"write_thresholds": False}})
    assert load_header(spec["output"]).thresholds is None
    assert summary(spec)["validation"] is None and summary(spec)["position"]["best"] > 0
    assert not (Path(spec["output"]) / "report").exists()


def test_thresholds_are_in_the_bundle_and_cost_it_nothing(spec: dict[str, Any], tmp_path: Path) -> None:
    spec["data"]["validation"] = {"path": str(draw_images(tmp_path / "many", classes=20, each=5, seed=3))}
    kinsight.train(spec)
    header = load_header(spec["output"])
    assert header.thresholds is not None
    assert [point.fmr for point in header.thresholds.points][:1] == [0.1]
    tmr = summary(spec)["validation"]["metrics"]["tpr@fpr=1e-1"]
    assert header.thresholds.points[0].tmr == pytest.approx(tmr)
    assert f"{header.thresholds.points[0].threshold:.4f}" in page(spec)
    assert header == load_header(Path(spec["output"]) / "best")
    kinsight.load(spec["output"])


def test_without_validation_the_page_says_how_to_get_numbers(spec: dict[str, Any]) -> None:
    del spec["data"]["validation"], spec["report"]
    kinsight.train(spec)
    text = page(spec)
    assert "this training had no validation images" in text and f"--bundle {spec['output']}" in text
    assert "there was no validation set" in text and 'id="map-canvas"' not in text
    assert summary(spec)["validation"] is None


def test_a_map_without_validation_is_an_error(spec: dict[str, Any]) -> None:
    del spec["data"]["validation"]
    with pytest.raises(SpecError, match=r"report.map needs data.validation"):
        kinsight.train(spec)


def test_no_report_when_none_is_wanted(spec: dict[str, Any]) -> None:
    kinsight.train(spec | {"report": None})
    assert not (Path(spec["output"]) / "report").exists()
    assert summary(spec)["validation"]["metrics"]["recall@1"] > 0
    kinsight.train(spec, overwrite=True)
    assert page(spec)
    kinsight.train(spec | {"report": None}, overwrite=True)
    assert not (Path(spec["output"]) / "report").exists()


def test_stopped_before_the_report_it_is_finished_later(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(prepared, run, broken, stop):
        stop._signalled = True
        return conclude(prepared, run, broken, stop)

    with monkeypatch.context() as patch:
        patch.setattr("kinsight.training.run.conclude", stopped)
        with pytest.raises(InterruptedRun, match="the training is done and saved"):
            kinsight.train(spec)
    output = Path(spec["output"])
    assert not (output / "run.json").exists() and not (output / "report").exists()
    torch.manual_seed(1)  # nothing of the end may hang on it
    kinsight.train(spec | {"report": {"map": "none"}})
    assert summary(spec)["position"]["step"] == 6 and 'id="map-canvas"' not in page(spec)


def test_what_cannot_be_measured_does_not_lose_the_run(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise DataError("evaluation.no-match", "none of the <20> queries has a match left")

    monkeypatch.setattr(final, "measure", failing)
    kinsight.train(spec)
    assert "could not be measured: none of the &lt;20&gt; queries" in page(spec)
    assert "could not be measured" in capsys.readouterr().err
    assert summary(spec)["validation"] is None


def test_two_processes_measure_what_one_does(settings: Settings, image_folder: Path, tmp_path: Path) -> None:
    further = {"steps": 4, "data.validation.path": str(image_folder / "validation/list.txt"), "report.map": "pca"}
    output = tmp_path / "two"
    finish_group(["train", *flags(settings | further | {"output": str(output)})], 2, tmp_path / "log")
    measured = json.loads((output / "run.json").read_text())["validation"]["metrics"]
    evaluated = kinsight.evaluate(
        {"bundle": str(output), "data": {"path": further["data.validation.path"]}, "output": str(tmp_path / "out"),
         "workers": 0, "device": "cpu", "write_thresholds": False, "report": None}
    ).metrics  # fmt: skip
    assert measured == pytest.approx(evaluated, abs=1e-6)
    assert "2 process(es)" in (output / "report/index.html").read_text(encoding="utf-8")
