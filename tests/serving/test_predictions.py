"""`/v1/predict` and `/api/predict`: what a bundle with a classifier answers, one without, and odd bodies."""

import base64
import io
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from classifier_bundles import make_classifier
from small_set import NAMES, picture

import kinsight
from kinsight.models import load_bundle, save_bundle, write_calibration
from kinsight.serving.serve import in_background
from kinsight.specs.serve import ServeSpec


def encoded(label: int, number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(label, number)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module", params=["classification", "multilabel"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    bundle = make_classifier(tmp_path_factory.mktemp("served") / "bundle", task=request.param)
    thresholds = [0.2] * 6 if request.param == "multilabel" else None
    write_calibration(bundle, temperature=1.7, label_thresholds=thresholds)
    with in_background(ServeSpec(bundle=str(bundle), port=0, max_upload_mb=1, precision="fp32")) as address:
        yield address, bundle


def post(address: str, body: bytes, kind: str = "application/octet-stream") -> tuple[int, dict]:
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name in ("probs", "class_probs"):
            assert found[name] == pytest.approx(value, rel=1e-4)
        else:
            assert found[name] == value


def test_the_same_as_the_model(served: tuple[str, Path]) -> None:
    address, bundle = served
    model = kinsight.load(bundle, device="cpu", precision="fp32")
    for label in range(6):
        data = encoded(label, 1)
        (expected,) = model.predict([data])
        status, found = post(f"{address}/api/predict/shoes", data)
        assert status == 200
        same(found, expected)
        wrapped = json.dumps({"image": base64.b64encode(data).decode()}).encode()
        same(post(f"{address}/api/predict", wrapped, "application/json")[1], expected)
        status, timed = post(f"{address}/v1/predict", data)
        assert timed.pop("model") == model.content_hash
        assert set(timed.pop("took_ms")) == {"decode", "embed"}
        same(timed, expected)


def test_only_the_most_probable(served: tuple[str, Path]) -> None:
    _, found = post(f"{served[0]}/v1/predict?top_k=2", encoded(3, 0))
    assert next(iter(found["class_probs"])) == NAMES[3]
    assert len(found["class_probs"]) == 2
    assert post(f"{served[0]}/v1/predict?top_k=0", encoded(3, 0))[0] == 400


@pytest.mark.parametrize(
    ("asked", "field", "remedy"),
    [
        ("/v1/predict?topk=2", "topk", "did you mean top_k?"),
        ("/api/predict/shoes?topk=2", "topk", "did you mean top_k?"),
        ("/v1/predict?threshold=2", "threshold", "leave it out"),
        ("/v1/embed?top_k=2", "top_k", "leave it out"),
        ("/v1/predict?top_k=0", "top_k", "give at least 1"),
        ("/v1/predict?top_k=two", "top_k", "give a whole number"),
    ],
)
def test_parameters_that_do_not_exist_or_fit(served: tuple[str, Path], asked: str, field: str, remedy: str) -> None:
    status, found = post(f"{served[0]}{asked}", encoded(3, 0))
    assert (status, found["code"], found["field"], found["remedy"]) == (400, "serve.parameter", field, remedy)


def test_an_address_that_is_not_served(served: tuple[str, Path]) -> None:
    status, found = post(f"{served[0]}/v1/predictions", encoded(3, 0))
    assert (status, found["field"]) == (404, "/v1/predictions") and "openapi.json" in found["remedy"]


def test_vectors_keep_their_length_of_one(served: tuple[str, Path]) -> None:
    _, found = post(f"{served[0]}/v1/embed", encoded(0, 0))
    assert np.linalg.norm(found["vector"]) == pytest.approx(1, abs=1e-5)
    (expected,) = kinsight.load(served[1], device="cpu", precision="fp32").embed([encoded(0, 0)])
    assert np.allclose(found["vector"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"no image", "application/octet-stream", 422, "data.broken-image"),
        (b"", "application/octet-stream", 422, "data.broken-image"),
        (b"{", "application/json", 400, "serve.json"),
        (b"[" * 100_000, "application/json", 400, "serve.json"),
        (b"{}", "application/json", 400, "serve.query"),
        (b'{"image": 3}', "application/json", 400, "serve.query"),
        (b'{"image": "AA=="}', "application/json", 422, "data.broken-image"),
        (b'{"image": "%%%"}', "application/json", 400, "serve.base64"),
        (b'{"image": "", "k": 1}', "application/json", 400, "serve.query"),
        (b"--x", "multipart/form-data; boundary=x", 415, "serve.form"),
        (bytes(1_100_000), "application/octet-stream", 413, "serve.too-large"),
    ],
)
def test_odd_bodies(served: tuple[str, Path], body: bytes, kind: str, status: int, code: str) -> None:
    found = post(f"{served[0]}/api/predict", body, kind)
    assert (found[0], found[1]["code"]) == (status, code)
    assert found[1]["remedy"]


@pytest.mark.parametrize("broken", ["classifier", "network"])
def test_numbers_that_are_not_finite_are_errors(broken: str, tmp_path: Path) -> None:
    sharpness = 1e40 if broken == "classifier" else 12.0
    bundle = make_classifier(tmp_path / "bundle", task="classification", sharpness=sharpness)
    if broken == "network":
        loaded = load_bundle(bundle)
        for parameter in loaded.net.parameters():
            parameter.data.mul_(1e30)
        save_bundle(bundle, loaded.net, loaded.header, loaded.classifier)
    with in_background(ServeSpec(bundle=str(bundle), port=0, precision="fp32")) as address:
        status, found = post(f"{address}/v1/predict", encoded(0, 0))
        assert (status, found["code"], found["field"]) == (422, "model.not-finite", "image")
        status, found = post(f"{address}/v1/embed", encoded(0, 0))
        assert (status, found.get("code")) == ((422, "model.not-finite") if broken == "network" else (200, None))


def test_a_bundle_without_classifier_says_so(server: str) -> None:
    status, found = post(f"{server}/api/predict", encoded(0, 0))
    assert (status, found["code"]) == (422, "bundle.no-classifier")
