"""Evaluation writes thresholds into the bundle, where searches read them, and only where they mean something."""

import json

import pytest
from PIL import Image, ImageDraw

import kinsight
from kinsight.errors import SpecError
from kinsight.models import load_header


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    for label in range(24):
        for number in range(6):
            image = Image.new("L", (28, 28), 20)
            ImageDraw.Draw(image).rectangle((label, 3, label + 4, 8 + label % 12 + number), fill=120 + 5 * label)
            path = folder / ("train" if label < 12 else "test") / f"c{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    kinsight.train(
        {
            "output": str(folder / "run"),
            "data": {
                "train": {"path": str(folder / "train"), "format": "folder"},
                "image_size": 28,
                "color": "gray",
                "workers": 0,
            },
            "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 16},
            "batch": {"size": 24},
            "epochs": 1,
        }
    )
    return folder


def _evaluate(folder, part, **settings):
    data = {"path": str(folder / part), "format": "folder"}
    given = {"bundle": str(folder / "run"), "data": data, "output": str(folder / "out"), "workers": 0, "bootstrap": 0}
    return kinsight.evaluate(given | settings)


def test_thresholds_are_in_the_bundle_and_change_nothing_else(drawn):
    before = load_header(drawn / "run")
    metrics = _evaluate(drawn, "test").metrics
    after = load_header(drawn / "run")
    assert before.thresholds is None
    assert after.thresholds is not None
    assert after.content_hash == before.content_hash
    assert after.model_copy(update={"thresholds": None}) == before
    loosest = after.thresholds.points[0]
    assert loosest.fmr == 0.1
    assert loosest.tmr == pytest.approx(metrics["tpr@fpr=1e-1"])
    decision = json.loads((drawn / "out" / "evaluation.json").read_text())["decision"]
    assert decision["points"][0]["threshold"] == loosest.threshold
    assert after.thresholds.point() == after.thresholds.points[-1]
    assert after.thresholds.point(0.1) == loosest
    with pytest.raises(SpecError, match=r"no threshold was measured .*different pairs"):
        after.thresholds.point(1e-4)
    kinsight.load(drawn / "run")


@pytest.mark.parametrize(
    ("part", "settings", "said"),
    [
        ("train", {}, "training images"),
        ("test", {"metric": "l2"}, "its metric is cosine, not l2"),
        ("test", {"write_thresholds": False}, ""),
    ],
)
def test_misleading_thresholds_are_not_written(drawn, capsys, part, settings, said):
    before = (drawn / "run/bundle/bundle.json").read_bytes()
    _evaluate(drawn, part, **settings)
    assert (drawn / "run/bundle/bundle.json").read_bytes() == before
    assert said in capsys.readouterr().err
    assert "threshold   " not in capsys.readouterr().err


def test_asking_for_thresholds_without_a_bundle_is_an_error(drawn):
    with pytest.raises(SpecError, match="write_thresholds has no effect"):
        kinsight.evaluate({"embeddings": str(drawn), "output": str(drawn / "out"), "write_thresholds": True})
