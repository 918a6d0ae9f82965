"""Evaluations leave a report, without images and with odd names too, and take an earlier one away."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import kinsight
from kinsight.errors import SpecError

FAST = {"map": "pca"}


def evaluate(output: Path, **settings: object) -> str:
    given = {"output": str(output), "workers": 0, "device": "cpu", "bootstrap": 20, "report": FAST}
    kinsight.evaluate(given | settings)
    page = output / "report/index.html"
    return page.read_text(encoding="utf-8") if page.exists() else ""


@pytest.fixture
def images(pictures: Path, bundle: Path) -> dict[str, object]:
    return {"bundle": str(bundle), "data": {"path": str(pictures / "names.txt")}, "write_thresholds": False}


def test_images_numbers_and_settings_are_on_it(images: dict[str, object], tmp_path: Path, capsys) -> None:
    text = evaluate(tmp_path / "out", **images)
    assert text.count("data:image/") > 20
    assert "&lt;b&gt;Ölpumpe&lt;/b&gt;" in text and "<b>Ölpumpe" not in text
    for words in ("How often the most similar image", "30 images each searched among the others", "max_pairs: 2000000",
                  "Every image could be read."):  # fmt: skip
        assert words in text
    assert f"report      {tmp_path / 'out/report/index.html'}" in capsys.readouterr().err


def test_no_report_when_none_is_wanted(images: dict[str, object], tmp_path: Path) -> None:
    assert evaluate(tmp_path, **images)
    assert not evaluate(tmp_path, **images | {"report": None}), "the earlier one belonged to other settings"


def test_broken_images_and_signatures(images: dict[str, object], pictures: Path, tmp_path: Path) -> None:
    lines = [f"{pictures}/{label}/{number}.png\t{label}" for label in range(4) for number in range(5)]
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    (tmp_path / "list.txt").write_text("\n".join([*lines, "cut.png\t1"]) + "\n")
    data = {"path": str(tmp_path / "list.txt")}
    text = evaluate(tmp_path / "out", **images | {"data": data, "max_broken": 0.5})
    assert "Images that could not be read: 1" in text and "cut.png" in text.replace("<wbr>", "")


@pytest.mark.parametrize("kind", ["tsne", "pca", "none"])
def test_stored_vectors_of_another_tool(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 5)
    np.save(tmp_path / "vectors.npy", random.normal(size=(6, 8))[labels] + random.normal(size=(30, 8)))
    np.save(tmp_path / "labels.npy", labels + 10**12)
    text = evaluate(tmp_path / "out", embeddings=str(tmp_path), report={"map": kind})
    assert "the embeddings name no image" in text and str(10**12 + 3) in text
    assert ('id="map-canvas"' in text) == (kind != "none")


@pytest.mark.parametrize(("classes", "each"), [(2, 2), (1, 10), (5, 2)])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_few_vectors(classes: int, each: int, metric: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    np.save(tmp_path / "vectors.npy", random.normal(size=(len(labels), 4)))
    np.save(tmp_path / "labels.npy", labels)
    text = evaluate(tmp_path / "out", embeddings=str(tmp_path), metric=metric, ks=[2])
    assert ("Not measurable: " in text) and ("nan" not in text.lower().split("<script")[0])


def test_settings_without_effect(images: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"report\.map_items has no effect with report\.map=none"):
        evaluate(tmp_path, **images | {"report": {"map": "none", "map_items": 50}})


def test_settings_on_the_page_give_the_job_back(images: dict[str, object], tmp_path: Path) -> None:
    import html
    import re

    from kinsight.specs.evaluate import EvaluateSpec

    text = evaluate(tmp_path / "out", **images)
    found = re.search(r"<pre>(.*?)</pre>", text, re.DOTALL)
    assert found is not None
    spec = EvaluateSpec.model_validate(yaml.safe_load(html.unescape(found[1])))
    assert spec.report is not None and spec.report.map == "pca" and spec.output == str(tmp_path / "out")
