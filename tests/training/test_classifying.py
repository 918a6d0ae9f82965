"""Trainings of classifiers, for one class an image and for many labels: from files to a bundle that predicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from train_runs import Settings, outcome, rows, spec_of

from kinsight import train
from kinsight.data import read_records
from kinsight.data.loader import iterate
from kinsight.data.multi_hot import MultiHot
from kinsight.errors import DataError, InterruptedRun, SpecError
from kinsight.metrics import multilabel_metrics
from kinsight.models import load_bundle
from kinsight.specs.data import Csv, ImageSpec
from kinsight.specs.train import TrainSpec

LABELS = ("dot", "bar", "ring", "cross")


def _stamp(pixels: np.ndarray, label: str, row: int, column: int) -> None:
    """A mark of 9 x 9 pixels."""
    place = pixels[row : row + 9, column : column + 9]
    if label == "dot":
        place[3:6, 3:6] += 90
    elif label == "bar":
        place[4, :] += 90
    elif label == "ring":
        place[1:8, 1:8] += 90
        place[2:7, 2:7] -= 90
    else:
        place[np.arange(9), np.arange(9)] += 90
        place[np.arange(9), 8 - np.arange(9)] += 90


def draw_marked(folder: Path, *, images: int, seed: int, hidden: float = 0.0) -> Path:
    """Noise with up to three marks each, and labels.csv with a column for each; hidden: share of unknown cells."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = [",".join(("image", *LABELS))]
    for number in range(images):
        shown = random.random(len(LABELS)) < 0.4
        pixels = random.normal(90, 12, (28, 28))
        places = random.permutation([(1, 1), (1, 17), (17, 1), (17, 17)])
        for label, (row, column) in zip(np.array(LABELS)[shown], places[: shown.sum()], strict=True):
            _stamp(pixels, str(label), int(row), int(column))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        cells = ["?" if random.random() < hidden else str(int(value)) for value in shown]
        lines.append(",".join((f"{number}.png", *cells)))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    draw_marked(folder / "train", images=160, seed=0, hidden=0.15)
    draw_marked(folder / "validation", images=80, seed=1)
    return folder


@pytest.fixture
def many(marked: Path, tmp_path: Path) -> Settings:
    return {
        "output": str(tmp_path / "run"),
        "task": "multilabel",
        **{
            f"data.{name}.{key}": value
            for name in ("train", "validation")
            for key, value in (
                ("format", "csv"),
                ("path", str(marked / name / "labels.csv")),
                ("label_columns", list(LABELS)),
            )
        },
        "data.image-size": 28,
        "data.color": "gray",
        "data.crop": 1,
        "data.augment.kind": "none",
        "data.workers": 0,
        "model.backbone": "conv4",
        "model.pretrained": None,
        "model.pooling.kind": "max",
        "optimizer.kind": "adam",
        "optimizer.lr": 0.01,
        "schedule.warmup-steps": 0,
        "batch.size": 20,
        "epochs": 4,
        "device": "cpu",
        "precision": "fp32",
        "report": None,
    }


@pytest.fixture
def single(settings: Settings, image_folder: Path) -> Settings:
    return without(settings, "model.embedding-dim") | {
        "task": "classification",
        "data.validation.path": str(image_folder / "train/list.txt"),
        "optimizer.kind": "adam",
        "optimizer.lr": 0.01,
        "report": None,
    }


def without(settings: Settings, *names: str) -> Settings:
    return {key: value for key, value in settings.items() if key not in names}


def predicted(bundle: str, csv: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Probabilities of a bundle, read anew, and what the images show."""
    loaded = load_bundle(bundle)
    records = read_records(
        Csv(path=str(csv), label_columns=list(LABELS)), classes=loaded.header.class_names, labelled=False
    )
    image = ImageSpec(image_size=28, color="gray", crop=1)
    assert loaded.classifier is not None
    with torch.inference_mode():
        parts = [
            loaded.classifier(loaded.net(batch.images_BCHW))
            for batch in iterate(records, image, batch_size=20, labelled=False)
        ]
    return torch.cat(parts).sigmoid(), MultiHot(records)[np.arange(len(records))]


def test_many_labels_are_learned(many: Settings, marked: Path) -> None:
    result = train(spec_of(many | {"epochs": 8, "loss.kind": "asl"}))
    found, truth_NC = predicted(result.bundle, marked / "validation/labels.csv")
    means = multilabel_metrics(found, truth_NC).means
    assert result.best == pytest.approx(means["map"], abs=1e-6) and means["map"] > 0.9
    header = load_bundle(result.bundle).header
    assert (header.task, header.class_names, header.embedding_dim) == ("multilabel", LABELS, 64)
    row = [row for row in rows(Path(many["output"])) if "exact_match" in row][-1]
    assert row["map"] <= result.best and {"cf1", "of1"} <= row.keys() and "micro_map" not in row


def test_one_class_is_learned(single: Settings) -> None:
    result = train(spec_of(single | {"steps": 60, "schedule.warmup-steps": 0}))
    loaded = load_bundle(result.bundle)
    assert result.best is not None and result.best > 0.9
    assert loaded.header.task == "classification" and len(loaded.header.class_names) == 8
    assert loaded.header.model_spec().neck.kind == "none" and loaded.net.embedding_dim == 64


@pytest.mark.parametrize(
    "further",
    [
        {"loss.kind": "arcface", "model.neck.kind": "linear", "model.embedding-dim": 8},
        {"loss.kind": "sub-center-arcface", "model.neck.kind": "bnneck", "model.embedding-dim": 8},
        {"loss.kind": "soft-triple", "loss.centres": 3, "mix.kind": "cutmix"},
        {"loss.smoothing": 0.1, "mix.kind": "mixup", "ema": {"decay": 0.9}},
        {"long-tail.kind": "class-balanced", "loss.kind": "adaface", "mix.kind": "mixup", "batch.accumulate": 2},
        {"long-tail.kind": "logit-adjustment", "extra-losses": [{"kind": "supcon", "weight": 0.3}]},
    ],
)
def test_settings_of_one_class(further: dict[str, Any], single: Settings) -> None:
    result = train(spec_of(single | further | {"steps": 5, "validate.write-thresholds": False}))
    loaded = load_bundle(result.bundle)
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    assert loaded.classifier is not None
    assert loaded.classifier(loaded.net(images)).shape == (3, 8)
    assert all(np.isfinite(row["loss"]) for row in rows(Path(single["output"])) if "loss" in row)


@pytest.mark.parametrize(
    "further",
    [
        {"loss.kind": "bce", "loss.positive-weight": "balanced", "mix.kind": "cutmix"},
        {"loss.kind": "focal", "long-tail.kind": "logit-adjustment"},
        {"loss.kind": "asl", "long-tail.kind": "class-balanced", "mix.kind": "mixup", "batch.accumulate": 2},
        {"loss.kind": "two-way", "batch.accumulate": 2, "model.neck.kind": "linear", "model.embedding-dim": 8},
        {"loss.kind": "bce", "loss.weight": 0.5, "extra-losses": [{"kind": "two-way"}], "ema": {"decay": 0.5}},
        {"sampler.kind": "class-balanced", "mix.kind": "cutmix", "head.init-from": None},
    ],
)
def test_settings_of_many_labels(further: dict[str, Any], many: Settings) -> None:
    result = train(spec_of(without(many, "epochs") | further | {"steps": 5, "validate.write-thresholds": False}))
    loaded = load_bundle(result.bundle)
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    assert loaded.classifier is not None
    assert loaded.classifier(loaded.net(images)).shape == (3, 4)
    assert result.best is not None


def test_averaged_weights_are_the_bundles(many: Settings, marked: Path) -> None:
    """With ema, network and classifier are averages both: the bundle measures what validation has measured."""
    result = train(spec_of(many | {"ema": {"decay": 0.8}, "epochs": 2}))
    found, truth_NC = predicted(result.bundle, marked / "validation/labels.csv")
    assert result.best == pytest.approx(multilabel_metrics(found, truth_NC).means["map"], abs=1e-6)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_resumed_to_the_same_bits(kind: str, many: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kinsight.training import loop

    plan = many | {
        "mix.kind": kind,
        "loss.kind": "asl",
        "ema": {"decay": 0.9},
        "checkpoint.every-steps": 3,
        "epochs": 2,
    }
    train(spec_of(plan | {"output": str(tmp_path / "whole")}))
    steps = iter(range(100))
    real = loop.train_step

    def stopped(*given: Any) -> Any:
        if next(steps) == 10:
            raise InterruptedRun("run.interrupted", "for this test")
        return real(*given)

    monkeypatch.setattr(loop, "train_step", stopped)
    with pytest.raises(InterruptedRun):
        train(spec_of(plan))
    monkeypatch.setattr(loop, "train_step", real)
    train(spec_of(plan))
    whole, parts = outcome(tmp_path / "whole"), outcome(Path(plan["output"]))
    assert whole.keys() == parts.keys()
    for name in whole:
        assert whole[name] == parts[name], name


def test_images_without_labels(single: Settings, many: Settings, tmp_path: Path) -> None:
    """Allowed with many labels; with one class an image named with their line."""
    source = Path(single["data.train.path"])
    listed = source.with_name("bare.txt")
    listed.write_text(source.read_text().replace("0-1.png 0", "0-1.png"))
    with pytest.raises(DataError) as caught:
        train(spec_of(single | {"data.train.path": str(listed)}))
    assert "bare.txt:2" in f"{caught.value.field} {caught.value}"
    listed.write_text(source.read_text().replace("0-1.png 0", "0-1.png 0 1"))
    with pytest.raises(DataError, match="2 labels"):
        train(spec_of(single | {"data.train.path": str(listed)}))
    csv = Path(many["data.train.path"])
    assert any(set(line.split(",")[1:]) == {"0"} for line in csv.read_text().splitlines()[1:])
    empty = csv.with_name("empty.csv")
    empty.write_text("image,dot,bar,ring,cross\n" + "".join(f"{i}.png,0,0,0,0\n" for i in range(40)))
    with pytest.raises(DataError, match=r"no image of .* has a label: there is nothing to learn"):
        train(spec_of(many | {"data.train.path": str(empty)}))


def test_labels_beyond_num_classes(single: Settings) -> None:
    with pytest.raises(DataError, match=r"label 5 is outside 0..4 \(num_classes allows 5 classes\)"):
        train(spec_of(single | {"data.num-classes": 5}))


def test_validation_labels_never_seen_in_training(single: Settings, image_folder: Path, many: Settings) -> None:
    train_list = image_folder / "train/list.txt"
    other = train_list.with_name("other.txt")
    other.write_text("\n".join(train_list.read_text().splitlines()[:20]) + "\n0-3.png 17\n")
    with pytest.raises(DataError, match="label '17' is not among the 8 classes") as caught:
        train(spec_of(single | {"data.validation.path": str(other)}))
    assert caught.value.field is not None and caught.value.field.endswith("other.txt:21")
    csv = Path(many["data.validation.path"])
    extra = csv.with_name("extra.csv")
    extra.write_text(csv.read_text().replace("cross", "star"))
    with pytest.raises(DataError, match="star"):
        train(spec_of(many | {"data.validation.path": str(extra), "data.validation.label_columns": ["dot", "star"]}))


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"task": "multilabel", "loss.kind": "softmax"}, "loss.kind=softmax does not suit task=multilabel"),
        ({"task": "classification", "loss.kind": "supcon"}, "does not suit task=classification"),
        ({"task": "metric", "loss.kind": "bce"}, "does not suit task=metric"),
        ({"task": "metric", "mix.kind": "mixup"}, "mix.kind=mixup has no effect with task=metric"),
        ({"task": "classification", "validate.metric": "map"}, "has accuracy, top5_accuracy, macro_recall"),
        ({"task": "metric", "validate.metric": "cf1"}, "validate.metric=cf1"),
        ({"task": "multilabel", "relation.kind": "shared-labels"}, "relation has no effect"),
        ({"task": "classification", "mix.kind": "mixup", "sampler.kind": "per-class"}, "sampler.kind=per-class"),
        (
            {"task": "classification", "mix.kind": "mixup", "extra_losses": [{"kind": "supcon"}]},
            r"extra_losses\[0\].kind=supcon cannot pair",
        ),
        (
            {"task": "classification", "long_tail.kind": "logit-adjustment", "loss.kind": "arcface"},
            "choose softmax or normalized-softmax",
        ),
        ({"task": "multilabel", "loss.kind": "bce", "loss.positive_weight": "heavy"}, "expected a number above 0"),
        (
            {"task": "classification", "long_tail.kind": "logit-adjustment", "sampler.kind": "class-balanced"},
            "long_tail.kind=logit-adjustment and sampler.kind=class-balanced both",
        ),
        (
            {"task": "multilabel", "long_tail.kind": "class-balanced", "sampler.kind": "class-balanced"},
            "long_tail.kind=class-balanced and sampler.kind=class-balanced both",
        ),
        (
            {"schedule.kind": "step", "schedule.at": [2, 4], "schedule.learning_rates": [0.1]},
            "expected 2, one for each",
        ),
        (
            {"schedule.kind": "step", "schedule.at": [2], "schedule.learning_rates": [0.1], "schedule.gamma": 0.5},
            "gamma=0.5 has no effect",
        ),
    ],
)
def test_settings_that_do_not_go_together(further: dict[str, Any], message: str, tmp_path: Path) -> None:
    from kinsight.specs.load import of

    base = {"output": str(tmp_path), "data.train.path": "a.txt", "data.validation.path": "b.txt"}
    with pytest.raises(SpecError, match=message):
        of(TrainSpec, spec_of(base | further))


def test_the_length_without_a_neck_is_decided_late(tmp_path: Path) -> None:
    """Printed settings can be read again, before and after it is decided."""
    from kinsight.specs.load import as_tree, of
    from kinsight.training.setup import settled

    plan = {"output": str(tmp_path), "data.train.path": "a.txt", "task": "multilabel", "model.backbone": "conv4"}
    spec = of(TrainSpec, spec_of(plan))
    assert as_tree(spec)["model"]["embedding_dim"] is None
    again = of(TrainSpec, as_tree(spec))
    assert again == spec and again.model.has_own_length
    decided = settled(again)
    assert as_tree(decided)["model"]["embedding_dim"] == 64 and settled(of(TrainSpec, as_tree(decided))) == decided
    assert as_tree(of(TrainSpec, spec_of({**plan, "task": "metric"})))["model"]["embedding_dim"] == 1536


def test_top5_of_few_classes(single: Settings, many: Settings) -> None:
    listed = Path(single["data.train.path"])
    few = listed.with_name("few.txt")
    few.write_text("\n".join(line for line in listed.read_text().splitlines() if line[0] in "0123") + "\n")
    plan = single | {"data.train.path": str(few), "data.validation.path": str(few), "validate.metric": "top5_accuracy"}
    with pytest.raises(SpecError, match="is always 1 with 4 classes"):
        train(spec_of(plan))


def test_rare_labels_favoured_twice_are_told(many: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    plan = many | {"epochs": 1, "loss.kind": "bce", "loss.positive-weight": "balanced"}
    train(spec_of(plan | {"sampler.kind": "class-balanced"}))
    assert "loss.positive_weight=balanced" in (said := capsys.readouterr().err) and "favoured twice" in said
    train(spec_of(plan | {"output": f"{many['output']}-plain"}))
    assert "favoured twice" not in capsys.readouterr().err


def test_micro_map_is_measured_where_it_decides(many: Settings) -> None:
    result = train(spec_of(many | {"epochs": 1, "validate.metric": "micro_map"}))
    row = [row for row in rows(Path(many["output"])) if "exact_match" in row][-1]
    assert row["micro_map"] == result.best


def test_what_is_told(many: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    train(spec_of(many | {"epochs": 1}))
    said = capsys.readouterr().err
    lines = Path(many["data.train.path"]).read_text().splitlines()[1:]
    cells = [line.split(",")[1:] for line in lines]
    bare, unknown = sum("1" not in row for row in cells), sum(row.count("?") for row in cells) / (4 * len(cells))
    each = sum(row.count("1") for row in cells) / len(cells)
    assert f"labels      4, {each:.3g} an image, {bare} images without any, {100 * unknown:.3g} % unknown" in said
    summary = json.loads((Path(many["output"]) / "run.json").read_text())
    assert summary["metric"] == "map" and summary["num_classes"] == 4
