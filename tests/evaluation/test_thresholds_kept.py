"""Evaluation writes thresholds into the bundle, where searches read them, and only where they mean something."""

import json

import pytest
from PIL import Image, ImageDraw

import kinsight
from kinsight.errors import SpecError
from kinsight.evaluation.thresholds import keep_thresholds
from kinsight.models import ThresholdPoint, Thresholds, load_header, write_thresholds


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
    return kinsight.evaluate(given | settings, overwrite=True)


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
    with pytest.raises(SpecError, match=r"no threshold was measured .*12 classes; bounds need 90"):
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


def test_nor_are_those_of_some_training_images(drawn, capsys):
    """However they are listed: a part of them, in another order, beside others."""
    paths = sorted((drawn / "train").rglob("*.png"))[5:] + sorted((drawn / "test").rglob("*.png"))[:30]
    listed = drawn / "mixed.txt"
    listed.write_text("".join(f"{path} {path.parent.name}\n" for path in reversed(paths)))
    before = (drawn / "run/bundle/bundle.json").read_bytes()
    _evaluate(drawn, "", data={"path": str(listed)})
    assert (drawn / "run/bundle/bundle.json").read_bytes() == before
    assert "about 69 % of these are its training images" in capsys.readouterr().err.replace("\n", " ")


def test_asking_for_thresholds_without_a_bundle_is_an_error(drawn):
    with pytest.raises(SpecError, match="write_thresholds has no effect"):
        kinsight.evaluate({"embeddings": str(drawn), "output": str(drawn / "out"), "write_thresholds": True})


def _found(classes, pairs, rates, data, unsupported=None, metric="cosine"):
    points = [
        ThresholdPoint(fmr=fmr, threshold=limit, fmr_low=0, fmr_high=1, tmr=0.9, tmr_low=0, tmr_high=1)
        for fmr, limit in rates.items()
    ]
    return Thresholds(
        metric=metric, confidence=0.95, classes=classes, same_pairs=9, different_pairs=pairs, data_fingerprint=data,
        points=tuple(points), unsupported=unsupported or {},
    )  # fmt: skip


@pytest.fixture
def kept(drawn):
    """The bundle with thresholds of many classes, as an earlier version would have written them."""
    known = _found(600, 2_000_000, {0.1: 0.4, 0.01: 0.5, 0.001: 0.6}, "many")
    bare = known.model_dump(mode="json")
    bare["points"] = [
        {k: v for k, v in point.items() if k not in ("classes", "different_pairs", "data_fingerprint", "confidence")}
        for point in bare["points"]
    ]
    write_thresholds(drawn / "run", Thresholds.model_validate(bare))

    def keep(found, gallery=None):
        keep_thresholds(drawn / "run", found, gallery)
        thresholds = load_header(drawn / "run").thresholds
        assert thresholds is not None
        return {point.fmr: (point.threshold, point.classes) for point in thresholds.points}, thresholds

    return keep


MANY = {0.1: (0.4, 600), 0.01: (0.5, 600), 0.001: (0.6, 600)}


def test_a_small_evaluation_replaces_nothing(kept, capsys):
    points, _ = kept(_found(13, 700, {0.1: 0.2}, "few", {"1e-2": "13 classes; bounds need 40"}))
    assert points == MANY
    said = capsys.readouterr().err
    assert "1e-1 measured on 600 classes, 2,000,000 different pairs (now 13 classes, 700 different pairs)" in said
    assert "1e-2 measured on 600 classes, 2,000,000 different pairs (13 classes; bounds need 40)" in said
    assert "now in the bundle" not in said


def test_more_support_replaces_and_what_it_cannot_tell_stays(kept, capsys):
    found = _found(700, 3_000_000, {0.1: 0.3, 0.01: 0.45}, "more", {"1e-3": "no", "1e-4": "no"})
    points, thresholds = kept(found)
    assert points == {0.1: (0.3, 700), 0.01: (0.45, 700), 0.001: (0.6, 600)}
    assert set(thresholds.unsupported) == {"1e-4"}
    assert "kept        1e-3 measured on 600 classes" in capsys.readouterr().err
    # what stayed is still judged by its own data, not by that of the last evaluation
    assert kept(_found(650, 2_500_000, {0.1: 0.9, 0.001: 0.7}, "other"))[0] == points | {0.001: (0.7, 650)}


def test_more_classes_with_fewer_pairs_are_not_more_support(kept):
    assert kept(_found(800, 1000, {0.01: 0.1}, "other"))[0] == MANY


def test_the_same_data_replace_and_take_back(kept):
    points, _ = kept(_found(600, 2_000_000, {0.1: 0.41, 0.01: 0.51}, "many", {"1e-3": "too few"}))
    assert points == {0.1: (0.41, 600), 0.01: (0.51, 600)}
    assert kept(_found(600, 5000, {0.1: 0.42}, "many", {"1e-2": "too few pairs"}))[0] == {
        0.1: (0.42, 600),
        0.01: (0.51, 600),
    }


def test_the_same_queries_with_another_gallery_are_other_data(kept):
    kept(_found(700, 3_000_000, {0.1: 0.3}, "queries"), "large")
    assert kept(_found(20, 1000, {0.1: 0.1}, "queries"), "small")[0][0.1] == (0.3, 700)
    assert kept(_found(20, 1000, {0.1: 0.1}, "queries"), "large")[0][0.1] == (0.1, 20)


def test_no_loose_rate_becomes_the_default(drawn, capsys):
    write_thresholds(drawn / "run", _found(13, 700, {0.1: 0.3}, "a"))
    keep_thresholds(drawn / "run", _found(14, 800, {0.1: 0.2}, "b"))
    thresholds = load_header(drawn / "run").thresholds
    assert thresholds is not None and thresholds.default() is None
    assert "searches accept nothing unless told to: no rate of 0.01 or less is measured" in capsys.readouterr().err
    strict = _found(50, 9000, {0.1: 0.2, 0.01: 0.4}, "c").default()
    assert strict is not None and strict.threshold == 0.4
