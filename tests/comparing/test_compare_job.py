"""The whole protocol on drawn images: runs, numbers, page, extension, failures, tuning."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compared import base_tree, small

import kinsight
from kinsight.comparing import compare
from kinsight.comparing.job import run
from kinsight.errors import DataError, RunError, SpecError
from kinsight.training import train


def _json(output: Path) -> dict[str, Any]:
    return json.loads((output / "compare.json").read_text())


def _evaluated(run: str, output: Path) -> dict:
    """The held-out classes measured once more by the run's bundle."""
    held_out = yaml.safe_load((Path(run) / "spec.yaml").read_text())["data"]["validation"]
    tree = {"bundle": run, "data": held_out, "output": str(output), "report": None, "workers": 0, "device": "cpu"}
    return kinsight.evaluate(tree | {"write_thresholds": False}).metrics


def test_compares_then_extends(images: Path, test_images: Path, tmp_path: Path) -> None:
    tree = small(images, tmp_path / "out", test={"format": "csv", "path": str(test_images)})
    comparison = compare(tree)
    first = _json(tmp_path / "out")
    assert comparison.results[0].name == first["best"]
    for name in ("cosface", "triplet"):
        found = first["candidates"][name]
        assert [(run["fold"], run["seed"], run["steps"]) for run in found["runs"]] == [(0, 0, 6), (1, 0, 6)]
        values = [run["metrics"]["map@r"] for run in found["runs"]]
        assert found["means"]["map@r"]["mean"] == pytest.approx(sum(values) / 2)
        for run_ in found["runs"]:
            measured = _evaluated(run_["output"], tmp_path / "check" / name / str(run_["fold"]))
            assert measured["map@r"] == pytest.approx(run_["metrics"]["map@r"], abs=1e-6)
            assert [steps for steps, _ in run_["curve"]] == [3, 6] and run_["conditions"][0]["threads"] >= 1
        test = found["test"]
        assert test["separate"]["recall@1"]["runs"] == 2 and test["concatenated"]["recall@1"]["runs"] == 1
    assert first["held_equal"]["batch.size"] == 16 and "loss.kind" not in first["held_equal"]
    page = (tmp_path / "out/report/index.html").read_text()
    assert "not significantly different" in page and "Learning curves" in page and "Nothing was tuned" in page

    # The same command trains nothing again; another candidate and seed are added to what is there.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/runs").rglob("run.json")}
    extended = tree["candidates"] | {"supcon": {"loss": {"kind": "supcon"}, "sampler": {"kind": "per-class"}}}
    grown = compare(tree | {"candidates": extended, "seeds": [0, 3]})
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()) and len(before) == 4
    assert sorted(len(result.runs) for result in grown.results) == [4, 4, 4]
    again = _json(tmp_path / "out")["candidates"]["cosface"]["runs"]
    assert [row for row in again if row["seed"] == 0] == first["candidates"]["cosface"]["runs"]

    with pytest.raises(SpecError, match=r"other settings: loss\.margin was 0\.1, now 0\.3"):
        changed = {"cosface": {"loss": {"kind": "cosface", "scale": 16.0, "margin": 0.3}}}
        compare(tree | {"candidates": tree["candidates"] | changed})


def test_every_metric_has_an_interval_in_a_table_of_100_columns(
    images: Path, test_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    tree = small(images, tmp_path / "out", test={"format": "csv", "path": str(test_images)})
    long = "a-candidate-of-a-rather-long-name"
    tree["candidates"] = {long: tree["candidates"]["cosface"], "triplet": tree["candidates"]["triplet"]}
    run(tree)
    text = capsys.readouterr().out
    means = _json(tmp_path / "out")["candidates"]["triplet"]["means"]
    cells = [f"{mean['mean']:.3f} ± {mean['high'] - mean['mean']:.3f}" for mean in means.values()]
    (row,) = [line for line in text.splitlines() if line.strip().startswith("triplet") and cells[0] in line]
    assert all(cell in row for cell in cells) and len(cells) == 3
    lines = text.splitlines()
    table = lines[: next(place for place, line in enumerate(lines) if "highest mean" in line)]
    assert max(map(len, table)) <= 100 and "…" not in "".join(table)
    page = (tmp_path / "out/report/index.html").read_text()
    assert all(page.count(f">{cell}<") >= 1 for cell in cells)
    # Classes of the test images have names that training classes have, too: another thing altogether, or a mistake.
    assert "test: 6 of the 6 class names are names of training classes too, such as 'c00'" in text
    assert _json(tmp_path / "out")["remarks"][0].startswith("test: 6 of the 6 class names")
    assert "Other images (6 of the 6 class names" in page and "Images of other classes" not in page


def test_learning_curves_share_axes_in_the_unit_of_the_budget(images: Path, tmp_path: Path) -> None:
    budget = {"epochs": 2}
    compare(small(images, tmp_path / "out", budget=budget, curve=4))
    for found in _json(tmp_path / "out")["candidates"].values():
        for run_ in found["runs"]:
            assert [round(epochs, 6) for epochs, _ in run_["curve"]] == [0.666667, 1.0, 1.666667, 2.0]
    page = (tmp_path / "out/report/index.html").read_text()
    section = page[page.index("Learning curves</h2>") :]
    grids = re.findall(r'<g class="grid">.*?</g><g class="words">(.*?)</g>', section)
    assert len(grids) == 2 and grids[0] == grids[1] and ">epochs<" in grids[0]


def test_test_images_that_are_training_images_are_refused(images: Path, tmp_path: Path) -> None:
    """Also where they are reached by a link."""
    (tmp_path / "aside").symlink_to(images.parent)
    first, *lines = images.read_text().splitlines()
    some = tmp_path / "some.csv"
    some.write_text("\n".join([first, *(f"aside/{line}" for line in lines[-3:])]) + "\n")
    message = r"3 of the 3 images of \S+some\.csv are training images too, such as \S+aside/11-5\.png"
    with pytest.raises(DataError, match=message) as caught:
        compare(small(images, tmp_path / "out", test={"format": "csv", "path": str(some)}))
    assert caught.value.field == "test" and "base.data.train" in (caught.value.remedy or "")
    assert not (tmp_path / "out/runs").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/spec.yaml").write_text("job: compare\n")  # an earlier comparison is removed only for a new one
    with pytest.raises(DataError, match=message):
        compare(small(images, tmp_path / "out", test={"format": "csv", "path": str(some)}), overwrite=True)
    assert (tmp_path / "out/spec.yaml").exists()


def test_a_failing_run_costs_no_other(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(spec: Any) -> Any:
        if "triplet" in spec.output and spec.data.train.path.endswith("fold-1-train.parquet"):
            raise RunError("run.not-finite", "loss is not finite")
        return train(spec)

    tree = small(images, tmp_path / "out")
    comparison = compare(tree, trainer=fails_once)
    assert [(run.name, outcome.failed) for run, outcome in comparison.failed] == [
        ("triplet fold 1 seed 0", "loss is not finite")
    ]
    assert comparison.results[0].name == "cosface" and comparison.results[1].verdict == "too few runs to tell"
    assert "triplet fold 1 seed 0 failed: loss is not finite" in capsys.readouterr().err
    assert "1 of 2" in (tmp_path / "out/report/index.html").read_text()
    monkeypatch.setattr("kinsight.comparing.job.compare", lambda *a, **k: comparison)
    with pytest.raises(RunError, match="1 of 4 runs failed"):
        run(tree)
    assert "failed: triplet fold 1 seed 0" in capsys.readouterr().out
    monkeypatch.undo()
    assert compare(tree).failed == []


def test_allowed_differences_stand_in_the_table(images: Path, tmp_path: Path) -> None:
    tree = small(images, tmp_path / "out", allow=["model.embedding_dim"], budget={"epochs": 1}, curve=1)
    tree["candidates"] = tree["candidates"] | {
        "triplet": tree["candidates"]["triplet"] | {"model": {"embedding_dim": 4}}
    }
    comparison = compare(tree)
    found = _json(tmp_path / "out")
    assert found["candidates"]["triplet"]["differs"] == [{"setting": "model.embedding_dim", "base": 8, "here": 4}]
    assert "model.embedding_dim" not in found["held_equal"] and not comparison.remarks
    assert "model.embedding_dim 4, not 8" in (tmp_path / "out/report/index.html").read_text()


def test_tuning(images: Path, tmp_path: Path) -> None:
    tree = small(images, tmp_path / "out", trials=2, budget={"steps": 3}, curve=1)
    tree["base"] = base_tree(images)
    tree["candidates"] = {
        "cosface": {"loss": {"kind": "cosface", "scale": 16.0, "margin": 0.1}, "tune": {"loss.scale": [8, 64]}},
        "triplet": {"loss": {"kind": "triplet"}, "tune": {"loss.distance": {"choices": ["euclidean", "cosine"]}}},
    }
    tree["tune"] = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    compare(tree)
    found = _json(tmp_path / "out")["candidates"]
    for name, tuned in (("cosface", "loss.scale"), ("triplet", "loss.distance")):
        trials = found[name]["trials"]
        best = max(trials, key=lambda trial: trial["score"])
        assert (
            len(trials) == 2
            and found[name]["tuned"] == best["values"]
            and set(best["values"]) == {tuned, "optimizer.lr"}
        )
        assert f"chosen-trial-{best['number']:04}" in found[name]["runs"][0]["output"]
    assert found["cosface"]["trials"][0]["values"] == {"loss.scale": 16.0, "optimizer.lr": 0.003}  # as declared
    assert all(path.read_text().startswith("{") for path in (tmp_path / "out/studies").iterdir())
    assert "chosen on a split" in (tmp_path / "out/report/index.html").read_text()
