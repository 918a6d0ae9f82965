"""Every documented spelling, in every way people write it, and what happens to a mistyped one."""

import logging
import subprocess
import sys

import pytest

from kinsight.errors import SpecError
from kinsight.models import names
from kinsight.models.backbones import layout_of, pretrained_cfg
from kinsight.models.names import DOCUMENTED, resolve

# Spelling: network, features. First as the pages print them, then as people may vary them.
MEANINGS = {
    "resnet_50": ("resnet50", 2048),
    "resnet_18": ("resnet18", 512),
    "resnet_34": ("resnet34", 512),
    "resnet_101": ("resnet101", 2048),
    "resnet50": ("resnet50", 2048),
    "resnet18": ("resnet18", 512),
    "resnet34": ("resnet34", 512),
    "resnet101": ("resnet101", 2048),
    "swint_tiny": ("swin_tiny_patch4_window7_224", 768),
    "swint_small": ("swin_small_patch4_window7_224", 768),
    "swint_base": ("swin_base_patch4_window7_224", 1024),
    "swin_transformer_tiny": ("swin_tiny_patch4_window7_224", 768),
    "swin_transformer_small": ("swin_small_patch4_window7_224", 768),
    "swin_transformer_base": ("swin_base_patch4_window7_224", 1024),
    "vit_tiny": ("vit_tiny_patch16_224", 192),
    "vit_small": ("vit_small_patch16_224", 384),
    "vit_base": ("vit_base_patch16_224", 768),
    "xcit_tiny": ("xcit_tiny_12_p16_224", 192),
    "xcit_small": ("xcit_small_12_p16_224", 384),
    "xcit_base": ("xcit_medium_24_p16_224", 512),
    "ResNet50": ("resnet50", 2048),
    "ResNet101": ("resnet101", 2048),
    "ResNet152": ("resnet152", 2048),
    "SE_ResNeXt50_32x4d": ("seresnext50_32x4d", 2048),
    "SE_ResNeXt101_32x4d": ("seresnext101_32x4d", 2048),
    "SE_ResNeXt152_32x4d": ("seresnext152_32x4d", 2048),
    "conv4": ("conv4", 64),
    "lenet": ("lenet", 1024),
    "cifarnet": ("cifarnet", 192),
    "alexnet": ("alexnet", 4096),
    "vgg_16": ("vgg16", 4096),
    "vgg_19": ("vgg19", 4096),
    "inception_v1": ("inception_v1", 1024),
    "inception_v2": ("inception_v2", 1024),
    "inception_v3": ("inception_v3", 2048),
    "inception_v4": ("inception_v4", 1536),
    "mobilenet_v1": ("mobilenetv1_100", 1024),
    "mobilenet_v2": ("mobilenetv2_100", 1280),
    "resnet_v1_50": ("resnet50", 2048),
    "resnet_v1_101": ("resnet101", 2048),
    "resnet_v1_152": ("resnet152", 2048),
    "Swin-Transformer-Tiny": ("swin_tiny_patch4_window7_224", 768),
    " resnet-50 ": ("resnet50", 2048),
    "mobilenetv3_small_100": ("mobilenetv3_small_100", 1024),
    "resnet50.tv_in1k": ("resnet50.tv_in1k", 2048),
}


@pytest.mark.parametrize("spelling", MEANINGS)
def test_meaning_and_dim(spelling: str) -> None:
    name, dim = MEANINGS[spelling]
    found = resolve(spelling)
    assert (found.asked, found.name) == (spelling, name)
    assert layout_of(found, in_chans=3, image_size=224).dim == dim


def test_no_documented_spelling_is_untested() -> None:
    tested = {names._key(spelling) for spelling in MEANINGS}
    assert {spelling for spelling in DOCUMENTED if names._key(spelling) not in tested} <= {
        "swin_tiny",
        "swin_small",
        "swin_base",
        "seresnext152_32x4d",
    }


def test_documented_backbones_have_published_weights_except_five() -> None:
    without, outside = set(), set()
    for spelling in DOCUMENTED:
        cfg = pretrained_cfg(resolve(spelling))
        if cfg is None or not (cfg.hf_hub_id or cfg.url):
            without.add(resolve(spelling).name)
        elif not cfg.hf_hub_id:
            outside.add(resolve(spelling).name)
        else:
            assert cfg.license
    assert without == {"conv4", "seresnext152_32x4d", "lenet", "cifarnet", "inception_v2"}
    assert outside == {"alexnet", "inception_v1"}


def test_stand_in_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_said", set())
    with caplog.at_level(logging.WARNING):
        resolve("xcit_base")
        resolve("XCiT_base")
    assert [record.message for record in caplog.records] == [
        "xcit_base: XCiT has no size of that name; xcit_medium_24_p16_224 is used"
    ]


@pytest.mark.parametrize(
    ("typed", "offered"), [("resnet5O", "resnet_50"), ("vit_tinny", "vit_tiny"), ("convnext_tinny", "convnext_tiny")]
)
def test_mistyped(typed: str, offered: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(typed)
    assert caught.value.field == "model.backbone"
    near = (caught.value.remedy or "").removeprefix("did you mean ").rstrip("?").split(", ")
    assert offered in near


def test_nothing_near() -> None:
    with pytest.raises(SpecError, match="no such backbone"):
        resolve("???")


def test_unknown_tag_names_the_tags() -> None:
    with pytest.raises(SpecError, match=r"resnet50\.a1_in1k"):
        resolve("resnet50.no_such_tag")


def test_documented_names_need_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from kinsight.models.names import resolve; resolve('resnet_50'); "
        "sys.exit(any(each in sys.modules for each in ('torch', 'timm', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
