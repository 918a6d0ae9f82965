"""Classifiers in bundles: what was saved gives the same logits, and what does not fit is said."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinsight.errors import DataError
from kinsight.models import (
    Classifier,
    ClassifierForm,
    build_network,
    load_bundle,
    load_header,
    make_header,
    save_bundle,
    write_calibration,
)
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec

MODEL = ModelSpec(backbone="conv4", pretrained=None, embedding_dim=8)
IMAGE = ImageSpec(image_size=28, color="gray")
NAMES = ("ash", "birch", "cedar")


def saved(place: Path, form: ClassifierForm) -> Classifier:
    net = build_network(MODEL, image=IMAGE, seed=0)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(form.num_classes * form.centres, 8, generator=generator)
    bias = torch.randn(form.num_classes, generator=generator) if form.bias else None
    classifier = Classifier.of(form, weight, bias)
    header = make_header(net, model=MODEL, image=IMAGE, task="multilabel", class_names=NAMES)
    save_bundle(place, net, header, classifier)
    return classifier


@pytest.mark.parametrize(
    "form",
    [
        ClassifierForm(num_classes=3, embedding_dim=8),
        ClassifierForm(num_classes=3, embedding_dim=8, unit=True, bias=False),
        ClassifierForm(num_classes=3, embedding_dim=8, bias=False, centres=2, pool="max"),
        ClassifierForm(num_classes=3, embedding_dim=8, centres=4, pool="soft", sharpness=2.5),
    ],
)
def test_round_trip(form: ClassifierForm, tmp_path: Path) -> None:
    before = saved(tmp_path, form)
    loaded = load_bundle(tmp_path)
    emb_BD = torch.randn(5, 8, generator=torch.Generator().manual_seed(4))
    assert loaded.classifier is not None and not loaded.classifier.training
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_BC = loaded.classifier(emb_BD)
    assert logits_BC.dtype == torch.float32
    torch.testing.assert_close(logits_BC, before(emb_BD), rtol=0, atol=0)
    assert (loaded.header.task, loaded.header.classifier) == ("multilabel", form)
    kept = {name for name in load_file(tmp_path / "model.safetensors") if name.startswith("classifier.")}
    assert kept == {"classifier.weight", *(["classifier.bias"] if form.bias else [])}


def test_pools_by_hand() -> None:
    form = ClassifierForm(num_classes=1, embedding_dim=1, bias=False, centres=2, pool="soft", sharpness=0.5)
    soft = Classifier.of(form, torch.tensor([[1.0], [3.0]]), None)
    share = torch.tensor([1.0, 3.0]).mul(2.0 * 0.5).softmax(0)
    assert soft(torch.tensor([[2.0]])).item() == pytest.approx((share * torch.tensor([2.0, 6.0])).sum().item())
    largest = Classifier.of(form.model_copy(update={"pool": "max", "unit": True}), torch.tensor([[1.0], [3.0]]), None)
    assert largest(torch.tensor([[2.0]])).item() == pytest.approx(3.0)


def test_no_classifier_in_metric(tmp_path: Path) -> None:
    net = build_network(MODEL, image=IMAGE, seed=0)
    save_bundle(tmp_path, net, make_header(net, model=MODEL, image=IMAGE))
    loaded = load_bundle(tmp_path)
    assert (loaded.classifier, loaded.header.task, loaded.header.classifier) == (None, "metric", None)
    with pytest.raises(DataError, match="no classifier"):
        write_calibration(tmp_path, temperature=2.0)


def test_calibration_changes_the_header_alone(tmp_path: Path) -> None:
    saved(tmp_path, ClassifierForm(num_classes=3, embedding_dim=8))
    before = load_header(tmp_path)
    write_calibration(tmp_path, temperature=1.5)
    write_calibration(tmp_path, label_thresholds=[0.5, 0.25, 0.75])
    after = load_header(tmp_path)
    assert (after.temperature, after.label_thresholds) == (1.5, (0.5, 0.25, 0.75))
    assert after.content_hash == before.content_hash
    with pytest.raises(DataError, match="2 thresholds for 3 classes"):
        write_calibration(tmp_path, label_thresholds=[0.5, 0.25])


def test_weights_of_another_classifier(tmp_path: Path) -> None:
    saved(tmp_path, ClassifierForm(num_classes=3, embedding_dim=8))
    header = json.loads((tmp_path / "bundle.json").read_text())
    header["classifier"]["centres"] = 2
    (tmp_path / "bundle.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match="do not fit"):
        load_bundle(tmp_path)
