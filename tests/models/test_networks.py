"""Networks of every kind: shapes, gradients, precision, determinism, and settings that cannot be."""

import pytest
import torch
from torch import nn

from kinsight.errors import SpecError
from kinsight.models import EmbeddingNet, backbone_dim, build_backbone, build_network, check_model
from kinsight.models.names import resolve
from kinsight.specs.data import ImageSpec
from kinsight.specs.evaluate import BackboneSpec
from kinsight.specs.model import AvgPool, BNNeck, CgdNeck, GemPool, LinearNeck, MaxPool, ModelSpec, TokenPool


def spec(backbone: str = "conv4", **more: object) -> ModelSpec:
    return ModelSpec.model_validate({"backbone": backbone, "pretrained": None, "embedding_dim": 24, **more})


def pixels(batch: int, channels: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=generator)


BUILDS = [
    ("conv4", 28, "gray", AvgPool(), LinearNeck()),
    ("conv4", 32, "rgb", GemPool(p=4.0), BNNeck()),
    ("conv4", 64, "rgb", AvgPool(), CgdNeck(branches=["avg", "gem", "max"])),
    ("resnet18", 64, "rgb", MaxPool(), LinearNeck()),
    ("resnet18", 64, "gray", AvgPool(), CgdNeck()),
    ("vit_tiny", 64, "rgb", AvgPool(), LinearNeck()),
    ("vit_tiny", 64, "gray", TokenPool(), BNNeck()),
    ("swint_tiny", 64, "rgb", AvgPool(), CgdNeck()),
    ("xcit_tiny", 64, "rgb", AvgPool(), LinearNeck()),
    ("xcit_tiny", 64, "gray", TokenPool(), LinearNeck()),
    ("cait_xxs24_224", 64, "rgb", AvgPool(), LinearNeck()),
    ("deit_tiny_distilled_patch16_224", 64, "rgb", AvgPool(), LinearNeck()),
    ("convnext_atto", 64, "rgb", AvgPool(), LinearNeck()),
    ("mobilenetv3_small_050", 64, "rgb", GemPool(), LinearNeck()),
]


@pytest.mark.parametrize(("backbone", "size", "color", "pool", "neck"), BUILDS)
def test_forward_and_backward(backbone: str, size: int, color: str, pool: object, neck: object) -> None:
    own = {} if isinstance(neck, CgdNeck) else {"pooling": pool}
    image = ImageSpec.model_validate({"image_size": size, "color": color})
    net = build_network(spec(backbone, neck=neck, **own), image=image, seed=1, with_aux=True).train()
    emb_BD, aux_BE = net.forward_with_aux(pixels(4, net.in_chans, size))
    assert emb_BD.shape == aux_BE.shape == (4, 24)
    assert emb_BD.dtype == torch.float32
    assert (aux_BE is emb_BD) == (not isinstance(neck, CgdNeck))
    generator = torch.Generator().manual_seed(0)
    (emb_BD + aux_BE).mul(torch.randn(4, 24, generator=generator)).sum().backward()
    for each in net.tagged_parameters():
        assert each.parameter.grad is not None, each.name
        assert each.parameter.grad.isfinite().all(), each.name


def test_class_attention_is_trained_only_for_the_class_token() -> None:
    image = ImageSpec(image_size=64)
    patches, token = (
        {each.name for each in build_network(spec("xcit_tiny", pooling=pool), image=image, seed=0).tagged_parameters()}
        for pool in (AvgPool(), TokenPool())
    )
    assert {"backbone.cls_token", "backbone.cls_attn_blocks.1.mlp.fc1.weight"} <= token - patches
    assert "backbone.cls_attn_blocks.1.norm1.weight" in patches


def test_tags() -> None:
    net = build_network(spec("vit_tiny", pooling=GemPool(), neck=BNNeck()), image=ImageSpec(image_size=64), seed=0)
    tags = {each.name: each for each in net.tagged_parameters()}
    assert len(tags) == sum(1 for _ in net.parameters())
    assert tags["neck.fc.weight"].decay
    assert tags["neck.fc.weight"].part == "neck"
    assert tags["backbone.blocks.0.mlp.fc1.weight"].decay
    for name in ("neck.norm.weight", "pooling.p", "backbone.pos_embed", "backbone.cls_token", "backbone.norm.bias"):
        assert not tags[name].decay, name


def test_auxiliary_branch_stays_apart() -> None:
    """The auxiliary branch neither moves the other weights nor is part of what a bundle keeps."""
    image = ImageSpec(image_size=32)
    with_aux, without = (
        build_network(spec(neck=CgdNeck()), image=image, seed=3, with_aux=flag).bundled_state()
        for flag in (True, False)
    )
    assert with_aux.keys() == without.keys()
    assert all(torch.equal(with_aux[key], without[key]) for key in without)


def test_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    image = ImageSpec(image_size=64)
    before = torch.get_rng_state()
    first, again, other = (build_network(spec("resnet18"), image=image, seed=seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])
    assert not torch.equal(first["neck.fc.weight"], other["neck.fc.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("backbone", "color"), [("conv4", "gray"), ("resnet18", "rgb"), ("vit_tiny", "rgb")])
def test_half_precision_agrees(backbone: str, color: str, dtype: torch.dtype) -> None:
    image = ImageSpec.model_validate({"image_size": 64, "color": color})
    net = build_network(spec(backbone, neck=CgdNeck()), image=image, seed=0).eval()
    images = pixels(8, net.in_chans, 64)
    with torch.no_grad():
        full = net(images)
        with torch.autocast("cpu", dtype):
            half = net(images)
    assert half.dtype == torch.float32
    assert nn.functional.cosine_similarity(full, half).min() > 0.999


def test_pixels_of_both_types_are_normalised_alike() -> None:
    net = build_network(spec("resnet18"), image=ImageSpec(image_size=64), seed=0).eval()
    images = pixels(2, 3, 64)
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert torch.equal(net(images), net(images.float()))
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(seen[0], (images / 255 - mean) / std)


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_every_layer_runs_channels_last(color: str) -> None:
    image = ImageSpec.model_validate({"image_size": 32, "color": color})
    net = build_network(spec(), image=image, seed=0)
    layouts = []
    for module in net.backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, __, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    with torch.autocast("cpu", torch.bfloat16):
        net(pixels(2, net.in_chans, 32))
    assert layouts == [True] * 4


def test_conv4_equals_the_definition() -> None:
    net = build_network(spec(), image=ImageSpec(image_size=28), seed=0).train()
    x = torch.rand(4, 3, 28, 28)
    expected = x
    for conv in net.backbone.convs:  # pyright: ignore
        plain = nn.Conv2d(conv.in_channels, 64, 3, padding=1)
        assert plain.bias is not None
        nn.init.zeros_(plain.bias)
        plain.weight.data.copy_(conv.weight)
        expected = nn.MaxPool2d(2)(nn.ReLU()(nn.BatchNorm2d(64)(plain(expected))))
    torch.testing.assert_close(net.backbone(x), expected)
    assert expected.shape == (4, 64, 1, 1)


def test_wrong_backbone_dim_names_the_right_one_without_making_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinsight.models.backbones.build", lambda *_, **__: pytest.fail("weights were made"))
    with pytest.raises(SpecError, match="resnet_50 gives 2048 features") as caught:
        build_network(spec("resnet_50", backbone_dim=512), image=ImageSpec(), seed=0)
    assert caught.value.field == "model.backbone_dim"
    assert backbone_dim("swint_base", ImageSpec()) == 1024
    check_model(spec("resnet_50", backbone_dim=2048), ImageSpec())


@pytest.mark.parametrize(
    ("backbone", "size", "remedy"),
    [
        ("conv4", 8, "16"),
        ("vit_tiny", 100, "96"),
        ("vit_base_patch14_dinov2", 224, None),
        ("vit_so400m_patch14_siglip_384", 384, None),
        ("vgg16", 16, "32"),
    ],
)
def test_image_size_that_cannot_be(backbone: str, size: int, remedy: str | None) -> None:
    image = ImageSpec(image_size=size)
    if remedy is None:
        check_model(spec(backbone), image)
        return
    with pytest.raises(SpecError, match=f"cannot take images of {size} pixels") as caught:
        check_model(spec(backbone), image)
    assert caught.value.field == "data.image_size"
    assert f"set it to {remedy}," in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"backbone": "resnet18", "pooling": {"kind": "token"}}, "model.pooling"),
        ({"backbone": "swint_tiny", "pooling": {"kind": "token"}}, "model.pooling"),
        ({"neck": {"kind": "cgd", "branches": ["avg", "gem", "max"]}, "embedding_dim": 25}, "model.embedding_dim"),
        ({"backbone": "deit_tiny_distilled_patch16_224", "pooling": {"kind": "max"}}, "model.pooling"),
        ({"backbone": "deit_tiny_distilled_patch16_224", "neck": {"kind": "cgd"}}, "model.neck"),
    ],
)
def test_settings_that_contradict(changes: dict, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_model(spec(**changes), ImageSpec(image_size=64))
    assert caught.value.field == field


def test_cgd_is_normalised_by_branch_only() -> None:
    image = ImageSpec(image_size=32)
    net = build_network(spec(neck=CgdNeck(branches=["avg", "gem", "max"])), image=image, seed=0)
    parts = net(pixels(5, 3, 32)).reshape(5, 3, 8)
    torch.testing.assert_close(parts.norm(dim=2), torch.ones(5, 3))


def test_gem_against_its_formula() -> None:
    from kinsight.models.backbones import FeatureMap
    from kinsight.models.pooling import GemPooling

    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 5, 4, 4, generator=generator, dtype=torch.float64).sub(0.2)
    for p in (1.0, 3.0, 7.5):
        expected = x.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p)
        torch.testing.assert_close(GemPooling(p)(FeatureMap(x, None)).double(), expected, rtol=1e-5, atol=1e-6)


def test_gem_gradient_and_extremes() -> None:
    from kinsight.models.backbones import FeatureMap
    from kinsight.models.pooling import GemPooling

    gem = GemPooling(100.0)
    x = torch.full((1, 2, 2, 2), 1e-3)
    x[0, 0] = -5.0
    x[0, 1, 0, 0] = 300.0
    x.requires_grad_(True)
    pooled = gem(FeatureMap(x, None))
    pooled.sum().backward()
    assert x.grad is not None
    assert gem.p.grad is not None
    assert pooled.isfinite().all()
    assert x.grad.isfinite().all()
    assert gem.p.grad.isfinite()
    assert pooled[0, 1].item() == pytest.approx(300.0 * 0.25**0.01, rel=1e-4)
    small = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(1)) + 0.1
    small.requires_grad_(True)
    GemPooling(3.0, learned=False)(FeatureMap(small, None)).sum().backward()
    exact = small.detach().double().requires_grad_(True)
    exact.pow(3).mean((2, 3)).pow(1 / 3).sum().backward()
    torch.testing.assert_close(small.grad, exact.grad.float())  # pyright: ignore[reportOptionalMemberAccess]


def test_backbone_alone() -> None:
    net = build_backbone(BackboneSpec(backbone="vit_tiny", pretrained=None), image=ImageSpec(image_size=64), seed=0)
    assert isinstance(net, EmbeddingNet)
    assert net.embedding_dim == 192
    assert net(pixels(2, 3, 64)).shape == (2, 192)
    assert net.mean == (0.5, 0.5, 0.5)


def test_tagged_timm_name_takes_that_tag_normalisation() -> None:
    assert resolve("vit_base_patch16_clip_224.openai").name == "vit_base_patch16_clip_224.openai"
    net = build_backbone(BackboneSpec(backbone="resnet18.tv_in1k", pretrained=None), image=ImageSpec(), seed=0)
    assert net.mean == (0.485, 0.456, 0.406)


def test_without_a_neck_the_embedding_is_the_pooled_features() -> None:
    image = ImageSpec(image_size=64)
    net = build_network(spec("resnet18", neck={"kind": "none"}, embedding_dim=512), image=image, seed=0).eval()
    assert not list(net.neck.parameters())
    features = net.features(pixels(2, 3, 64)).map_BDHW
    torch.testing.assert_close(net(pixels(2, 3, 64)), features.mean((2, 3)))
    assert all(name.startswith("backbone.") for name in net.bundled_state())


def test_without_a_neck_another_length_is_refused() -> None:
    with pytest.raises(SpecError, match=r"model\.embedding_dim: 24: .* 512 pooled features\n.*set it to 512"):
        check_model(spec("resnet18", neck={"kind": "none"}), ImageSpec(image_size=64))
