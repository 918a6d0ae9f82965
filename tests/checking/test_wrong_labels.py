"""Wrong labels are shown by the neighbours of a bundle's vectors."""

from pathlib import Path

import numpy as np
import torch
from faulty_set import Faulty, encoded
from PIL import Image

from kinsight.checking import check
from kinsight.checking.wrong_labels import FEW, NEIGHBOURS, judge
from kinsight.models import build_network, make_header, save_bundle
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec


def test_the_lead_equals_a_loop():
    rng = np.random.default_rng(0)
    emb = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(60, 8)).astype(np.float32)), dim=1)
    label = np.append(rng.integers(0, 5, 59), 9)
    other, lead = judge(emb, label)
    for i in range(59):
        alike = (emb @ emb[i]).double().numpy()
        alike[i] = -9
        near = np.argsort(-alike)[:NEIGHBOURS]
        strange = near[label[near] != label[i]]
        own = np.sort(alike[label == label[i]])[::-1][:FEW].mean()
        assert np.isclose(lead[i], max(-1, (alike[strange[:FEW]].mean() - own) / (1 - own)), atol=1e-4)
        counts = np.bincount(label[strange])
        assert counts[other[i]] == counts.max()
    assert lead[59] == -1, "alone with its label"


def test_one_class_and_one_image_have_no_wrong_labels():
    emb = torch.eye(4)
    assert (judge(emb, np.zeros(4, np.int64))[1] == -1).all()
    assert (judge(emb[:1], np.zeros(1, np.int64))[1] == -1).all()


def test_swapped_labels_are_found_surest_first_and_without_a_bundle_said_not_to_be(tmp_path: Path):
    faulty = Faulty(tmp_path / "set")
    for c in range(5):
        pattern = np.kron(np.random.default_rng(c).integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1)))
        for n in range(12):
            noise = np.random.default_rng([c, n]).integers(-40, 41, pattern.shape)
            image = Image.fromarray((pattern + noise).clip(0, 255).astype(np.uint8))
            label = f"class {(c + 1) % 5}" if n == 7 and c < 3 else f"class {c}"
            faulty.add(f"{c}-{n}.png", encoded(image, "PNG"), label)
    model, image = ModelSpec(backbone="conv4", pretrained=None, embedding_dim=12), ImageSpec(image_size=16, crop=1.0)
    net = build_network(model, image=image, seed=0).eval()
    save_bundle(tmp_path / "bundle", net, make_header(net, model=model, image=image))
    settings = {"data": {"path": faulty.list()}, "workers": 0, "near": False}
    result = check({**settings, "output": str(tmp_path / "with"), "bundle": str(tmp_path / "bundle")})
    rows = result.findings.rows["mislabelled"]
    uris = {Path(result.findings.joint.records.uri(row.image)).stem: row.detail for row in rows}
    assert uris == {f"{c}-7": f"looks like class {c}" for c in range(3)}
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert "looks like class 2" in (tmp_path / "with/report/index.html").read_text()
    without = check({**settings, "output": str(tmp_path / "without")})
    assert without.numbers["mislabelled"] is None and "mislabelled" in without.numbers["not_looked"]
