"""Progress: events for programs, plain lines without a terminal, true rates after a resume."""

import json
import math
from pathlib import Path

import pytest

from kinsight import progress


def test_events_are_json_lines_with_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "_EVENT_EVERY_S", 0.0)
    events = progress.Events(tmp_path / "events.jsonl")
    with progress.task("embed", 4, "images", events=events) as task:
        for _ in range(4):
            task.advance(1, loss=math.nan)
    events.close()
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [row["done"] for row in rows] == [1, 2, 3, 4, 4]
    assert rows[-1]["event"] == "done" and rows[0]["event"] == "progress"
    assert {row["task"] for row in rows} == {"embed"} and rows[0]["total"] == 4
    assert rows[0]["loss"] is None, "JSON has no NaN"


def test_without_a_terminal_plain_lines_appear(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with progress.task("train", 10, "steps") as task:
        task.advance(5, loss=0.25)
    text = capsys.readouterr().err
    assert "train   50 %  5/10 steps" in text and "loss 0.25" in text and "left" in text


def test_the_rate_counts_from_where_a_resume_began():
    with progress.task("train", 1000, "steps", quiet=True) as task:
        task.skip_to(900)
        task.advance(1)
        assert task.done == 901 and task._base == 900


def test_quiet_tasks_print_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with progress.task("x", 2, "items", quiet=True) as task:
        task.advance(2)
    assert capsys.readouterr().err == ""
