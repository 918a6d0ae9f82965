import importlib.util

import pytest

from kinsight.bench import evaluate
from kinsight.errors import RunError
from kinsight.specs.bench import BenchEvaluate


def test_both_sides_give_the_same_numbers(capsys):
    pytest.importorskip("faiss")
    pytest.importorskip("pytorch_metric_learning")
    results = evaluate.run(BenchEvaluate(items=1200, dim=32, classes=[100], threads=[1], repeats=1))
    (row,) = results["rows"]
    assert row["same_numbers"]
    assert row["largest_difference"] <= evaluate.SAME
    assert 0.3 < row["recall@1"] < 1
    assert row["ours_seconds"] > 0
    assert "same" in capsys.readouterr().out


def test_a_missing_peer_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="--extra bench"):
        evaluate.run(BenchEvaluate(items=100))
