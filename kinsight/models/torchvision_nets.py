"""Networks of torchvision that timm lacks, as backbones: weights files of torchvision fit them."""

from torch import Tensor, nn
from torchvision.models import AlexNet, GoogLeNet


class AlexNetFeatures(AlexNet):
    """AlexNet up to its last layer but one. Krizhevsky 2014 (arXiv:1404.5997). To [B, 4096]."""

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        if in_chans != 3:
            self.features[0] = nn.Conv2d(in_chans, 64, kernel_size=11, stride=4, padding=2)
        self.classifier[6] = nn.Identity()

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters make a layer, as timm's networks say it."""
        return {"features": r"^features\.(\d+)", "classifier": r"^classifier\.(\d+)"}


class InceptionV1(GoogLeNet):
    """GoogLeNet with batch normalisation up to inception 5b. Szegedy et al. 2015 (arXiv:1409.4842), without the
    auxiliary classifiers. To [B, 1024, H/32, W/32].
    """

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__(aux_logits=False, transform_input=False, init_weights=False)
        if in_chans != 3:
            self.conv1.conv = nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
        # Theirs draws everything with a deviation of 0.01, from which twenty layers hardly learn.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.avgpool = self.dropout = self.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        for layer in (self.inception4a, self.inception4b, self.inception4c, self.inception4d, self.inception4e):
            x = layer(x)
        return self.inception5b(self.inception5a(self.maxpool4(x)))

    def group_matcher(self, coarse: bool = False) -> dict[str, str | list[tuple[str, tuple[int]]]]:
        """Which parameters make a layer, as timm's networks say it."""
        mixed = [(rf"^inception(\d){letter}", (place,)) for place, letter in enumerate("abcde")]
        return {"stem": r"^conv(\d+)", "mixed": mixed}
