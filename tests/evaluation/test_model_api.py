"""`kinsight.load(bundle).embed(...)` and the other names of the Python API."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from servers import web_server
from small_set import make_bundle, picture, write_list

import kinsight
from kinsight.errors import DataError, SpecError, StorageError


def test_every_kind_of_image_gives_the_same_vector(pictures: Path, bundle: Path):
    path = pictures / "3/2.png"
    data = path.read_bytes()
    array = picture(3, 2)
    model = kinsight.load(bundle)
    kinds = [str(path), path, data, bytearray(data), Image.open(path), Image.fromarray(array), array, f"file://{path}"]
    vectors = model.embed(kinds)
    assert vectors.shape == (len(kinds), 12) and vectors.dtype == np.float32
    for row in vectors[1:]:
        np.testing.assert_array_equal(row, vectors[0])
    with web_server(pictures) as server:
        np.testing.assert_allclose(model.embed([f"{server.url}/3/2.png"])[0], vectors[0], atol=1e-6)


def test_a_run_folder_or_a_path_object_is_as_good_as_a_bundle(pictures: Path, tmp_path: Path):
    make_bundle(tmp_path / "run/bundle", seed=0)
    image = [pictures / "0/0.png"]
    first = kinsight.load(tmp_path / "run").embed(image)
    np.testing.assert_array_equal(kinsight.load(str(tmp_path / "run/bundle")).embed(image), first)


def test_arrays_of_any_layout_and_colour_modes(bundle: Path):
    model = kinsight.load(bundle)
    grey = picture(1, 1)[:, :, 0]
    greys = model.embed([grey, grey[:, :, None], np.stack([grey] * 3, 2)])
    np.testing.assert_array_equal(greys, np.stack([greys[0]] * 3))
    colour = picture(1, 1)
    strided = np.ascontiguousarray(colour.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(*model.embed([colour, strided]))
    image = Image.fromarray(colour)
    modes = [image.convert(mode) for mode in ("RGBA", "CMYK", "P", "L", "1")]
    assert np.isfinite(model.embed([*modes, image.convert("L").convert("LA")])).all()
    many = np.stack([picture(0, n) for n in range(5)])
    np.testing.assert_array_equal(model.embed(many), model.embed(list(many)))


def test_batches_order_length_and_normalisation(pictures: Path, bundle: Path):
    model = kinsight.load(bundle)
    paths = [pictures / f"{c}/{n}.png" for c in range(6) for n in range(3)]
    whole = model.embed(paths)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    raw = model.embed(paths, normalize=False)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), whole, atol=1e-6)
    backwards = model.embed(paths[::-1])[::-1]
    np.testing.assert_allclose(backwards, whole, atol=0.02)
    np.testing.assert_allclose(model.embed(paths, batch_size=4), whole, atol=0.02)
    assert model.embed([]).shape == (0, 12)
    assert (model.embedding_dim, model.image.image_size) == (12, 16)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        ("nowhere.png", DataError, r"nowhere\.png: not a usable image"),
        (b"", DataError, r"images\[1\]: not a usable image: the file is empty"),
        (b"text", DataError, r"images\[1\].*none of the known formats"),
        (np.zeros((4, 4, 3), np.float32), DataError, r"images\[1\].*float32 \(4, 4, 3\): expected uint8"),
        (np.zeros((3, 4, 4), np.uint8), DataError, r"images\[1\].*uint8 \(3, 4, 4\)"),
        (np.zeros((0, 4), np.uint8), DataError, r"images\[1\].*uint8 \(0, 4\)"),
        (7, DataError, r"images\[1\]: int of int64 \(\)"),
        (None, DataError, r"images\[1\]: NoneType of object \(\)"),
        (Image.new("F", (4, 4)), DataError, r"images\[1\].*floating-point pixels"),
        ("http://127.0.0.1:9/a.png", StorageError, "127.0.0.1:9"),
    ],
)
def test_what_is_no_image_is_named(
    image: object, kind: type[Exception], message: str, pictures: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "1")
    with pytest.raises(kind, match=message):
        kinsight.load(bundle).embed([pictures / "0/0.png", image])


def test_a_truncated_picture_opened_by_the_caller(pictures: Path, bundle: Path):
    cut = Image.open(io.BytesIO((pictures / "0/0.png").read_bytes()[:300]))
    with pytest.raises(DataError, match=r"images\[0\]: not a usable image"):
        kinsight.load(bundle).embed([cut])


@pytest.mark.parametrize("image", ["one.png", b"bytes", Path("one.png")])
def test_a_single_image_is_not_a_list(image: object, bundle: Path):
    with pytest.raises(SpecError, match="single image where a list is expected"):
        kinsight.load(bundle).embed(image)  # type: ignore[arg-type]


def test_bundle_vectors_equal_what_validation_saw(pictures: Path, tmp_path: Path):
    """Best validation of a training, evaluation of its bundle, and a loop over `embed`: one number."""
    validation = str(pictures / "names.txt")
    spec = {
        "output": str(tmp_path / "run"),
        "data": {
            "train": {"path": str(pictures / "integers.txt")},
            "validation": {"path": validation},
            "image_size": 16,
            "crop": 1.0,
            "augment": {"kind": "none"},
            "workers": 0,
        },
        "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 8},
        "optimizer": {"kind": "adamw", "lr": 0.003},
        "batch": {"size": 10},
        "epochs": 3,
        "validate": {"metric": "map@r"},
    }
    result = kinsight.train(spec)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    judged = [row for row in rows if row["kind"] == "validation"]
    best = max(judged, key=lambda row: row["map@r"])
    measured = kinsight.evaluate(
        {"output": str(tmp_path / "out"), "bundle": result.bundle, "data": {"path": validation}, "bootstrap": 0}
    ).metrics
    assert measured["map@r"] == best["map@r"] == result.best
    assert measured["recall@1"] == best["recall@1"]
    lines = [line.split("\t") for line in Path(validation).read_text(encoding="utf-8").splitlines()]
    vectors = kinsight.load(result.bundle).embed([pictures / path for path, _ in lines], normalize=False)
    names = sorted({name for _, name in lines})
    label_N = torch.tensor([names.index(name) for _, name in lines])
    assert kinsight.metrics.retrieval_metrics(torch.from_numpy(vectors), label_N).means["map@r"] == best["map@r"]


def test_the_library_in_somebody_elses_loop():
    """Losses and metrics with plain torch, nothing else of the package."""
    torch.manual_seed(0)
    label_N = torch.arange(40) % 8
    data_ND = torch.randn(8, 20)[label_N] + 1.5 * torch.randn(40, 20)
    net = torch.nn.Linear(20, 16)
    head = kinsight.losses.ArcFace(8, 16, margin_deg=20, scale=16)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.02)
    before = kinsight.metrics.retrieval_metrics(net(data_ND).detach(), label_N).means["map@r"]
    for _ in range(60):
        loss, stats = head(net(data_ND), label_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = kinsight.metrics.retrieval_metrics(net(data_ND).detach(), label_N).means["map@r"]
    assert after > before + 0.2 and 0 <= float(stats["accuracy"]) <= 1


def test_importing_kinsight_costs_nothing():
    code = "import sys, kinsight; print([m for m in ('torch', 'pyarrow', 'pydantic', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_wrong_settings_name_the_nearest(bundle: Path, tmp_path: Path):
    with pytest.raises(SpecError, match=r"bundles.*bundle"):
        kinsight.evaluate({"output": str(tmp_path), "bundles": str(bundle), "data": {"path": "x"}})
    with pytest.raises(SpecError, match="device='tpu'"):
        kinsight.load(bundle, device="tpu")
    with pytest.raises(SpecError, match=r"precision='fp8'.*bf16"):
        kinsight.load(bundle, precision="fp8")


def test_integer_list_and_api_spec_objects(pictures: Path, bundle: Path, tmp_path: Path):
    from kinsight.specs.evaluate import EvaluateSpec

    write_list(tmp_path / "list.txt", [(str(pictures / f"{c}/{n}.png"), c) for c in range(2) for n in range(3)])
    given = {"output": str(tmp_path / "a"), "bundle": str(bundle), "data": {"path": str(tmp_path / "list.txt")}}
    first = kinsight.evaluate(given)
    second = kinsight.evaluate(EvaluateSpec.model_validate({**given, "output": str(tmp_path / "b")}))
    assert first.metrics == second.metrics and second.output == str(tmp_path / "b")
