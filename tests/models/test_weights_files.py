"""First weights: files of every form, the own store, the hub out of reach, and files that do not fit."""

import logging
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from kinsight.errors import DataError, SpecError, StorageError
from kinsight.models import build_backbone, build_network
from kinsight.specs.data import ImageSpec
from kinsight.specs.evaluate import BackboneSpec
from kinsight.specs.model import ModelSpec, TokenPool

IMAGE = ImageSpec(image_size=64)
GRAY = ImageSpec(image_size=64, color="gray")


def classifier(name: str = "resnet18", classes: int = 7, **options: object) -> nn.Module:
    """A network as someone else trained it: another seed, a classification head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        return timm.create_model(name, num_classes=classes, **options)


def backbone(pretrained: str | None, name: str = "resnet18", image: ImageSpec = IMAGE, asked: bool = True) -> nn.Module:
    return build_backbone(BackboneSpec(backbone=name, pretrained=pretrained), image=image, seed=0, asked=asked).backbone


def same(net: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in net.state_dict().items())


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return classifier()


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + key: value for key, value in state.items()}


FORMS = {
    "plain": lambda state: state,
    "nested": lambda state: {"epoch": 3, "state_dict": state},
    "nested twice": lambda state: {"model": {"state_dict": prefixed(state, "module.")}},
    "data parallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "with neck and head": lambda state: {
        "state_dict": {**prefixed(state, "module.backbone."), "module.neck.fc.weight": torch.zeros(3, 2)}
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".old.pth"])
def test_torch_files(form: str, suffix: str, trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(FORMS[form](trained.state_dict()), path, _use_new_zipfile_serialization=suffix == ".pth")
    assert same(backbone(str(path)), trained)


def test_safetensors_and_head_is_mentioned(
    trained: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    with caplog.at_level(logging.WARNING):
        net = build_network(
            ModelSpec(backbone="resnet18", pretrained=str(path), embedding_dim=8), image=IMAGE, seed=0, asked=True
        )
    assert same(net.backbone, trained)
    assert net.origin.source == str(path)
    assert any("left out" in note and "fc.weight (7, 512)" in note for note in net.origin.notes)
    assert [record.message for record in caplog.records] == list(net.origin.notes)


def test_file_at_a_url_of_this_machine(trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "mine weights.safetensors"
    save_file(trained.state_dict(), path)
    assert same(backbone(path.as_uri()), trained)


def test_gray_sums_the_colours(trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    weight = backbone(str(path), image=GRAY).conv1.weight
    torch.testing.assert_close(weight, trained.conv1.weight.sum(1, keepdim=True))  # pyright: ignore


def test_position_embeddings_are_fitted_to_the_image_size(tmp_path: Path) -> None:
    theirs = classifier("vit_tiny_patch16_224").state_dict()
    theirs["pos_embed"][:, 1:] = 0.25
    save_file(theirs, tmp_path / "weights.safetensors")
    ours = backbone(str(tmp_path / "weights.safetensors"), "vit_tiny").state_dict()
    assert ours["pos_embed"].shape == (1, 17, 192)
    torch.testing.assert_close(ours["pos_embed"][:, 1:], torch.full((1, 16, 192), 0.25))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items() if key != "pos_embed")


def test_window_tables_are_fitted_to_the_image_size(tmp_path: Path) -> None:
    """At 64 pixels the third stage has windows of 4 instead of 7; the bias of equal positions stays what it was."""
    theirs = classifier("swin_tiny_patch4_window7_224").state_dict()
    save_file(theirs, tmp_path / "weights.safetensors")
    ours = backbone(str(tmp_path / "weights.safetensors"), "swint_tiny").state_dict()
    table = "layers.2.blocks.0.attn.relative_position_bias_table"
    assert (theirs[table].shape, ours[table].shape) == ((13 * 13, 12), (7 * 7, 12))
    torch.testing.assert_close(ours[table][24], theirs[table][84])
    kept = [key for key, value in ours.items() if key in theirs and value.shape == theirs[key].shape]
    assert len(kept) > 150
    assert all(torch.equal(ours[key], theirs[key]) for key in kept)


def test_class_attention_weights_load_for_both_poolings(tmp_path: Path) -> None:
    theirs = classifier("xcit_nano_12_p16_224")
    path = tmp_path / "weights.safetensors"
    save_file(theirs.state_dict(), path)
    spec = BackboneSpec(backbone="xcit_nano_12_p16_224", pretrained=str(path), pooling=TokenPool())
    net = build_backbone(spec, image=ImageSpec(image_size=64), seed=0).eval()
    assert same(net.backbone, theirs)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        normalised = (images / 255 - torch.tensor(net.mean).reshape(3, 1, 1)) / torch.tensor(net.std).reshape(3, 1, 1)
        expected = theirs.eval().forward_head(theirs.forward_features(normalised), pre_logits=True)  # pyright: ignore
        torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


def test_another_network(trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    with pytest.raises(DataError, match=r"layer1\.2\.conv1\.weight: \(64, 64, 3, 3\) here, not in the file") as caught:
        backbone(str(path), "resnet34")
    assert caught.value.field == "model.pretrained"
    with pytest.raises(DataError, match="no tensor has a name of this backbone"):
        backbone(str(path), "vit_tiny")


def test_other_shapes_are_listed(trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = trained.state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(64, 32, 3, 3)
    save_file(state, path)
    with pytest.raises(DataError) as caught:
        backbone(str(path))
    assert "1 of the backbone's" in caught.value.message
    assert "layer1.0.conv1.weight: (64, 64, 3, 3) here, (64, 32, 3, 3) in the file" in caught.value.message


class Sneaky:
    """Stands for code that a pickle would run."""


@pytest.mark.parametrize("content", ["pickle", "text", "empty", "truncated", "no tensors"])
def test_files_that_are_no_weights(content: str, trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    match content:
        case "pickle":
            torch.save({"state_dict": trained.state_dict(), "args": Sneaky()}, path)
        case "text":
            path.write_text("these are not weights at all")
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            save_file(trained.state_dict(), path)
            path.write_bytes(path.read_bytes()[:100_000])
        case "no tensors":
            torch.save({"epoch": 1}, path)
    with pytest.raises(DataError) as caught:
        backbone(str(path))
    assert str(path) in caught.value.message


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent"):
        backbone(str(tmp_path / "absent.safetensors"))


@pytest.mark.parametrize("file", ["resnet18.a1_in1k.safetensors", "resnet18.safetensors"])
def test_own_store(file: str, trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(trained.state_dict(), tmp_path / file)
    monkeypatch.setenv("KINSIGHT_WEIGHTS", str(tmp_path))
    net = build_backbone(BackboneSpec(backbone="resnet_18"), image=IMAGE, seed=0)
    assert same(net.backbone, trained)
    assert net.origin.licence == "apache-2.0"
    assert net.origin.source == str(tmp_path / file)


def test_own_store_may_hold_what_was_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = backbone(None, "conv4")
    save_file({key: value.contiguous() + 1 for key, value in mine.state_dict().items()}, tmp_path / "conv4.safetensors")
    monkeypatch.setenv("KINSIGHT_WEIGHTS", str(tmp_path))
    theirs = backbone("default", "conv4").state_dict()
    assert all(torch.equal(value + 1, theirs[key]) for key, value in mine.state_dict().items())


@pytest.mark.parametrize("store", [True, False])
def test_neither_store_nor_hub(store: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's address is a closed port of this machine; both remedies are named, within seconds."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KINSIGHT_WEIGHTS", raising=False)
    if store:
        monkeypatch.setenv("KINSIGHT_WEIGHTS", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(StorageError) as caught:
        backbone("default", asked=False)
    assert time.monotonic() - start < 20
    remedy = caught.value.remedy or ""
    assert "resnet18.a1_in1k.safetensors" in remedy
    assert "KINSIGHT_WEIGHTS" in remedy
    assert "model.pretrained" in remedy
    assert ("does not hold" if store else "is not set") in caught.value.message


def test_backbone_without_published_weights(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINSIGHT_WEIGHTS", raising=False)
    with caplog.at_level(logging.WARNING):
        net = backbone("default", "conv4", asked=False)
    assert [record.message for record in caplog.records] == [
        "conv4 has no published weights: it starts from random ones"
    ]
    assert same(net, backbone(None, "conv4"))
    with pytest.raises(SpecError, match="no published weights") as caught:
        backbone("default", "conv4", asked=True)
    assert caught.value.field == "model.pretrained"
