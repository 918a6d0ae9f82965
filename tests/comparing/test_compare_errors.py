"""What a comparison refuses, before anything is trained, and how it says so."""

from pathlib import Path
from typing import Any

import pytest
from compared import Tree, small

from kinsight.comparing import compare
from kinsight.errors import KinsightError


def _candidate(**changes: Any) -> dict[str, Any]:
    return {"a": {"loss": {"kind": "supcon"}}, "b": {"loss": {"kind": "triplet"}} | changes}


CASES: dict[str, tuple[Tree, str]] = {
    "one fold": ({"folds": 1}, r"folds\.number=1: must be greater than or equal to 2"),
    "more folds than classes": ({"folds": 13}, r"folds\.number=13: more folds than the 12 classes"),
    "another batch": (
        {"candidates": _candidate(batch={"size": 32})},
        r"candidates\.b\.batch\.size=32: the protocol holds it equal .*base: 16.*\n.*allow: \[batch\.size\]",
    ),
    "another network": (
        {"candidates": _candidate(model={"embedding_dim": 16})},
        r"b\.model\.embedding_dim=16: the prot",
    ),
    "another schedule": ({"candidates": _candidate(schedule={"kind": "constant"})}, r"b\.schedule\..*: the protocol"),
    "its own seed": ({"candidates": _candidate(seed=3)}, r"candidates\.b\.seed: is set by the comparison"),
    "its own images": ({"candidates": _candidate(data={"train": {"path": "x"}})}, r"b\.data\.train: is set by"),
    "unknown setting": ({"candidates": _candidate(los={})}, r"candidates\.b: los: no such setting; did you mean loss"),
    "unknown loss": ({"candidates": _candidate(loss={"kind": "tripet"})}, r"candidates\.b: .*did you mean triplet"),
    "one candidate": ({"candidates": {"a": {}}}, "candidates.*at least 2"),
    "twins": (
        {"candidates": _candidate(loss={"kind": "supcon"})},
        r"candidates\.b: has the same settings as cand.*\.a",
    ),
    "a name with a slash": ({"candidates": {"a": {}, "../b": {}}}, "a name begins with"),
    "names alike": ({"candidates": {"a": {}, "A": {}}}, "differs in case only"),
    "idle allow": ({"allow": ["batch.size"]}, r"allow: no candidate changes batch\.size"),
    "unknown allow": ({"allow": ["batch.sise"]}, "allow: 'batch.sise' is no setting"),
    "no budget": ({"budget": None}, "budget: neither the comparison nor its base"),
    "two budgets": ({"budget": {"steps": 3, "seconds": 2.0}}, "budget: give one of"),
    "nothing to tune": ({"trials": 3}, "trials=3 has no effect without ranges"),
    "no trials": ({"tune": {"optimizer.lr": [0.1, 1]}}, "tune has no effect with trials=0"),
    "one tuned alone": (
        {"trials": 2, "candidates": _candidate(tune={"loss.margin": [0.1, 0.2]})},
        r"candidates\.a has nothing to tune",
    ),
    "tuned out of bounds": (
        {"trials": 2, "candidates": _candidate(tune={"loss.margin": [0.1, 5]}), "tune": {"optimizer.lr": [0.1, 1]}},
        r"candidates\.b\.tune\.loss\.margin: loss\.margin=5\.0: must be less than or equal to 4",
    ),
    "tuned unknown": (
        {"trials": 2, "tune": {"loss.temprature": [0.1, 1]}},
        r"tune\.loss\.temprature: loss\.temprature: no such setting",
    ),
    "tuned but held equal": (
        {"trials": 2, "tune": {"batch.size": [8, 16]}},
        r"tune\.batch\.size: the protocol holds it equal",
    ),
    "falling range": ({"trials": 2, "tune": {"optimizer.lr": [1, 0.1]}}, r"tune\.optimizer\.lr: low=1 .*rising"),
    "log from zero": ({"trials": 2, "tune": {"optimizer.lr": {"low": 0, "high": 1, "log": True}}}, "above 0"),
    "single choice": ({"trials": 2, "tune": {"loss.margin": {"choices": [1]}}}, "two texts, numbers"),
    "same seed twice": ({"seeds": [1, 1]}, "must be distinct"),
    "no such base": ({"base": "nowhere.yaml"}, "nowhere.yaml"),
    "base of another job": ({"base": {"job": "demo"}}, "job=demo: expected a train spec"),
    "broken base": ({"base": {"data": {"train": {"path": "x"}}, "batch": {"size": 0}}}, r"base: batch\.size=0"),
    # told by the data and the objects, still before the first run
    "memory larger than a fold": (
        {"candidates": _candidate(loss={"kind": "triplet", "memory": {"size": 90, "warmup_steps": 0}})},
        r"candidates\.b\.loss\.memory\.size=90",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, images: Path, tmp_path: Path) -> None:
    changes, message = CASES[name]
    tree = {key: value for key, value in (small(images, tmp_path / "out") | changes).items() if value is not None}
    with pytest.raises(KinsightError, match=f"(?s){message}"):
        compare(tree)
    assert not list((tmp_path / "out").rglob("run.json"))


def test_overwrite_leaves_strangers_alone(images: Path, tmp_path: Path) -> None:
    strange = tmp_path / "out/runs/mine/notes.txt"
    strange.parent.mkdir(parents=True)
    strange.write_text("kept")
    tree = small(images, tmp_path / "out", budget={"steps": 1}, curve=1)
    compare(tree, overwrite=True)
    assert strange.read_text() == "kept"
    compare(tree | {"folds": {"number": 2, "seed": 5}}, overwrite=True)  # a comparison's own output is replaced
    assert not strange.exists()
