"""The bundle: same vectors after a round trip, damage is noticed, older ones still load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError, StorageError
from kinsight.models import EmbeddingNet, artefact, build_network, load_bundle, make_header, save_bundle
from kinsight.specs.data import DataSpec, ImageList, ImageSpec
from kinsight.specs.model import BNNeck, CgdNeck, GemPool, LinearNeck, ModelSpec

GRAY28 = ImageSpec(image_size=28, color="gray", crop=1.0)
GOLDEN = Path(__file__).parent / "golden" / "bundle-v1.json"


def model(**more: Any) -> ModelSpec:
    return ModelSpec.model_validate({"backbone": "conv4", "pretrained": None, "embedding_dim": 16, **more})


def pixels(net: EmbeddingNet, size: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, net.in_chans, size, size), dtype=torch.uint8, generator=generator)


def trained(spec: ModelSpec, image: ImageSpec = GRAY28, seed: int = 7) -> EmbeddingNet:
    """A network whose running statistics have moved, too."""
    net = build_network(spec, image=image, seed=seed, with_aux=True).train()
    with torch.no_grad():
        net(pixels(net, image.image_size))
    return net.eval()


def save(net: EmbeddingNet, place: Path, spec: ModelSpec, image: ImageSpec = GRAY28, **more: Any) -> Any:
    return save_bundle(place, net, make_header(net, model=spec, image=image, **more))


NECKS = [LinearNeck(), BNNeck(), CgdNeck()]


@pytest.mark.parametrize("neck", NECKS, ids=lambda neck: neck.kind)
@pytest.mark.parametrize("run", [False, True])
def test_round_trip(neck: Any, run: bool, tmp_path: Path) -> None:
    spec = model(neck=neck, **({} if isinstance(neck, CgdNeck) else {"pooling": GemPool(p=4.0)}))
    net = trained(spec)
    place = tmp_path / "run" / "bundle"
    header = save(net, place, spec, class_names=("猫", "dog"), metric="ip", data_fingerprint="f" * 64)
    loaded = load_bundle(place.parent if run else place)
    assert loaded.header == header
    assert loaded.header.class_names == ("猫", "dog")
    assert loaded.header.content_hash == header.content_hash
    assert (loaded.header.model_spec(), loaded.header.image_spec()) == (spec, GRAY28)
    assert not loaded.net.training
    assert loaded.net.aux is None
    with torch.no_grad():
        assert torch.equal(loaded.net(pixels(net)), net(pixels(net)))


def test_same_network_same_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        save(trained(model()), tmp_path / place, model())
    for file in ("model.safetensors", "bundle.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_content_hash_follows_what_decides_a_vector(tmp_path: Path) -> None:
    net = trained(model())
    base = save(net, tmp_path / "a", model())
    named = save(net, tmp_path / "b", model(), class_names=("x",))
    cropped = save(net, tmp_path / "c", model(), ImageSpec(image_size=28, color="gray", crop=0.9))
    other = save(trained(model(), seed=8), tmp_path / "d", model())
    assert base.content_hash == named.content_hash
    assert len({base.content_hash, cropped.content_hash, other.content_hash}) == 3


def test_timm_network_and_data_spec_as_image(tmp_path: Path) -> None:
    spec = model(backbone="vit_tiny")
    image = DataSpec(train=ImageList(path="train.txt"), image_size=32, color="rgb")
    net = build_network(spec, image=image, seed=0).eval()
    save_bundle(tmp_path, net, make_header(net, model=spec, image=image))
    loaded = load_bundle(str(tmp_path))
    assert loaded.header.mean == (0.5, 0.5, 0.5)
    with torch.no_grad():
        assert torch.equal(loaded.net(pixels(net, 32)), net(pixels(net, 32)))


def test_loading_needs_no_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = trained(model())
    save(net, tmp_path, model(backbone="conv4", pretrained="s3://nowhere/weights.safetensors"))
    monkeypatch.setattr("kinsight.models.build.load_first_weights", lambda *_, **__: pytest.fail("asked for weights"))
    load_bundle(tmp_path)


def test_header_keeps_no_signature(tmp_path: Path) -> None:
    spec = model(pretrained="https://store.example/w.safetensors?signature=SECRET")
    net = build_network(spec, image=GRAY28, seed=0, fill=False)
    save_bundle(tmp_path, net, make_header(net, model=spec, image=GRAY28))
    assert "SECRET" not in (tmp_path / "bundle.json").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save(trained(model()), tmp_path / "bundle", model())
    return tmp_path / "bundle"


@pytest.mark.parametrize("damage", ["flip", "truncate", "swap"])
def test_damaged_weights(damage: str, place: Path, tmp_path: Path) -> None:
    weights = place / "model.safetensors"
    data = bytearray(weights.read_bytes())
    match damage:
        case "flip":
            data[-5] ^= 1
        case "truncate":
            del data[-5:]
        case "swap":
            save(trained(model(), seed=9), tmp_path / "other", model())
            data = bytearray((tmp_path / "other" / "model.safetensors").read_bytes())
    weights.write_bytes(data)
    with pytest.raises(DataError, match="truncated or altered"):
        load_bundle(place)


def test_missing_pieces(place: Path, tmp_path: Path) -> None:
    (place / "bundle.json").rename(tmp_path / "aside.json")
    for address in (place, place.parent):
        with pytest.raises(DataError, match=r"incomplete bundle: bundle\.json is missing"):
            load_bundle(address)
    (tmp_path / "aside.json").rename(place / "bundle.json")
    (place / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"incomplete bundle: model\.safetensors is missing"):
        load_bundle(place)
    with pytest.raises(StorageError, match="no model bundle there"):
        load_bundle(tmp_path / "absent")


def test_interrupted_rewriting_leaves_an_incomplete_bundle(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("storage.full", "no space left")

    monkeypatch.setattr("kinsight.storage.write_text", full)
    with pytest.raises(StorageError, match="no space"):
        save(trained(model(), seed=9), place, model())
    with pytest.raises(DataError, match="incomplete bundle"):
        load_bundle(place)


def edit(place: Path, **changes: Any) -> None:
    header = json.loads((place / "bundle.json").read_text())
    for key, value in changes.items():
        header[key] = value
    (place / "bundle.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "something-else"}, "format is 'something-else'"),
        ({"version": "one"}, "version is 'one'"),
        ({"version": 99, "kinsight": "7.0"}, "version 99, this Kinsight reads up to 2; written by Kinsight 7.0"),
        ({"embedding_dim": "many"}, "embedding_dim"),
        ({"model": {"backbone": 3}}, "backbone"),
        ({"model": {"backbone": "conv4", "embedding_dim": 32}}, "do not fit the network"),
    ],
)
def test_foreign_headers(changes: dict[str, Any], said: str, place: Path) -> None:
    edit(place, **changes)
    with pytest.raises(DataError, match=said):
        load_bundle(place)


def test_header_that_is_no_json(place: Path) -> None:
    (place / "bundle.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        load_bundle(place)


def test_unknown_fields_are_ignored(place: Path) -> None:
    header = json.loads((place / "bundle.json").read_text())
    header["model"] |= {"later": 1, "pooling": {"kind": "avg", "later": 2}}
    edit(place, later=1, model=header["model"], image=header["image"] | {"later": 3})
    assert load_bundle(place).header.model_spec() == model()


def test_migration(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version to come renames a field; today's bundle goes through its migration."""
    edit(place, kind_of_metric="l2")

    def to_third(content: dict[str, Any]) -> dict[str, Any]:
        return {**content, "metric": content["kind_of_metric"]}

    monkeypatch.setattr(artefact, "VERSION", 3)
    monkeypatch.setitem(artefact.MIGRATIONS, 2, to_third)
    header = load_bundle(place).header
    assert (header.version, header.metric) == (3, "l2")


def test_every_version_has_a_migration() -> None:
    assert sorted(artefact.MIGRATIONS) == list(range(1, artefact.VERSION))


def golden_state() -> dict[str, Tensor]:
    """Weights by formula, under the names and shapes of the first version."""
    shapes = {f"backbone.convs.{i}.weight": (64, 1 if i == 0 else 64, 3, 3) for i in range(4)}
    for i in range(4):
        shapes |= {f"backbone.norms.{i}.{part}": (64,) for part in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"pooling.p": (), "neck.norm.weight": (64,), "neck.norm.bias": (64,), "neck.fc.weight": (4, 64)}
    shapes |= {"neck.norm.running_mean": (64,), "neck.norm.running_var": (64,)}
    state = {}
    for number, (key, shape) in enumerate(sorted(shapes.items())):
        i = torch.arange(torch.Size(shape).numel())
        value = ((i * 7919 + i * i * 31 + number * 104729) % 1009 / 1009 - 0.5).reshape(shape).float()
        state[key] = value + 1.0 if key.endswith(("norm.weight", "var", "pooling.p")) else value * 0.2
    for norm in [*(f"backbone.norms.{i}" for i in range(4)), "neck.norm"]:
        state[f"{norm}.num_batches_tracked"] = torch.tensor(5)
    return state


def test_golden(tmp_path: Path) -> None:
    """A bundle of version 1, byte for byte, still loads and gives the vector it gave."""
    written = json.loads(GOLDEN.read_text())
    expected = written.pop("expected_vector")
    (tmp_path / "model.safetensors").write_bytes(artefact._serialized(golden_state()))
    (tmp_path / "bundle.json").write_text(json.dumps(written))
    net, header, _ = load_bundle(tmp_path)
    image = (torch.arange(28 * 28) * 5 % 256).to(torch.uint8).reshape(1, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(net(image)[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert header.content_hash == "2eb451c903d6c2cf9dfa150dd9363471f33923ff67195e0910993904282f0b52"


def test_init_from_takes_backbone_and_neck(tmp_path: Path) -> None:
    net = trained(model(pooling=GemPool(p=5.0)))
    save(net, tmp_path, model(pooling=GemPool(p=5.0)))
    spec = model(pooling=GemPool(), init_from=str(tmp_path), pretrained="default")
    child = build_network(spec, image=GRAY28, seed=1).eval()
    with torch.no_grad():
        assert torch.equal(child(pixels(net)), net(pixels(net)))
    assert child.origin.source == str(tmp_path)
    assert child.origin.notes == ()


def test_init_from_skips_another_neck(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = trained(model())
    save(net, tmp_path, model())
    child = build_network(model(embedding_dim=8, init_from=str(tmp_path)), image=GRAY28, seed=1)
    assert torch.equal(child.backbone.convs[3].weight, net.backbone.convs[3].weight)  # pyright: ignore
    assert child.origin.notes == (f"{tmp_path}: its neck differs from this one and is left out",)
    assert [record.message for record in caplog.records] == list(child.origin.notes)


def test_init_from_colour_to_gray_and_another_size(tmp_path: Path) -> None:
    spec = model(backbone="vit_tiny")
    net = build_network(spec, image=ImageSpec(image_size=32), seed=0)
    save_bundle(tmp_path, net, make_header(net, model=spec, image=ImageSpec(image_size=32)))
    child = build_network(
        model(backbone="vit_tiny", init_from=str(tmp_path)), image=ImageSpec(image_size=64, color="gray"), seed=1
    )
    assert child(pixels(child, 64)).shape == (3, 16)
    assert torch.equal(child.backbone.norm.weight, net.backbone.norm.weight)  # pyright: ignore


@pytest.mark.parametrize(
    ("changes", "asked", "field"),
    [({"backbone": "resnet18"}, False, "model.init_from"), ({"pretrained": "default"}, True, "model.pretrained")],
)
def test_init_from_that_cannot_be(changes: dict[str, Any], asked: bool, field: str, place: Path) -> None:
    with pytest.raises(SpecError) as caught:
        build_network(model(init_from=str(place), **changes), image=ImageSpec(image_size=32), seed=0, asked=asked)
    assert caught.value.field == field
