"""Training for so many seconds: ends by the clock, schedules by its share, goes on with what is left."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from paced import rest_at_each_step
from train_runs import Settings, finish, flags, spec_of, start

import kinsight
from kinsight.errors import SpecError
from kinsight.training.budget import Budget, Clock
from kinsight.training.state import Position


def _rows(output: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


def _timed(settings: Settings, seconds: float) -> Settings:
    return {key: value for key, value in settings.items() if key != "steps"} | {"seconds": seconds}


def test_ends_by_the_clock_and_validates_evenly(settings: Settings, image_folder: Path) -> None:
    base = _timed(settings, 1.5) | {
        "data.validation.path": str(image_folder / "validation/list.txt"),
        "validate.times": 3,
        "validate.keep": "last",
        "report": None,
    }
    result = kinsight.train(spec_of(base))
    position = json.loads((Path(result.output) / "run.json").read_text())["position"]
    assert 1.5 <= position["seconds"] < 3.0 and position["step"] > 3
    validations = _rows(Path(result.output), "validation")
    assert len(validations) == 3
    assert [row["seconds"] // 0.5 for row in validations[:2]] == [1, 2]
    assert result.best == validations[-1]["recall@1"]  # of the end, whatever came before
    rates = [row["lr"] for row in _rows(Path(result.output), "train")]
    assert rates[-1] < 0.1 * max(rates)  # half a cosine over the time


def test_goes_on_with_the_time_that_is_left(settings: Settings, tmp_path: Path) -> None:
    output = Path(settings["output"])
    words = ["train", *flags(_timed(settings, 3.0) | {"report": None})]
    run = start(words, tmp_path / "log", before=rest_at_each_step)
    code = run.signal_when(lambda: (output / "metrics.jsonl").exists() and bool(_rows(output, "train")), signal.SIGINT)
    assert code == 130 and "of 3 s, step" in run.text, run.text
    spent = max(row["seconds"] for row in _rows(output, "train"))
    assert 1.0 < spent < 3.0  # ten rests
    text = finish(words, tmp_path / "again")
    assert "going on    from" in text
    position = json.loads((output / "run.json").read_text())["position"]
    assert 3.0 <= position["seconds"] < 4.5
    seconds = [row["seconds"] for row in _rows(output, "train")]
    assert seconds == sorted(seconds)


def test_only_one_of_epochs_steps_seconds(settings: Settings) -> None:
    with pytest.raises(SpecError, match="steps and seconds are both set"):
        kinsight.train(spec_of(settings | {"seconds": 3.0}))
    with pytest.raises(SpecError, match=r"validate\.keep must be best"):
        tree = spec_of(settings | {"data.validation.path": "x", "validate.keep": "last"})
        kinsight.train(tree | {"early_stop": {"patience": 2}})


def test_share_and_clock() -> None:
    half = Position(step=5, seconds=30.0)
    assert Budget(steps=10).share(half) == Budget(seconds=60.0).share(half) == 0.5
    assert Budget(seconds=60.0).expected_steps(half) == 10 and Budget(seconds=60.0).expected_steps(Position()) is None
    assert not Budget(seconds=60.0).is_used(half) and Budget(seconds=30.0).is_used(half)
    clock = Clock(100.0)
    with clock.paused():
        os.sched_yield()
        end = clock.seconds + 0.05
        while clock.seconds < end:
            pass
    assert 100.0 <= clock.seconds < 100.04
