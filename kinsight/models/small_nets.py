"""Two networks for pictures of 28 and 32 pixels whose fully connected layer sees every place of the picture.

Their weights belong to one picture size. Layers carry the names under which the networks were published.
"""

import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 512
"""Pixels: beyond, the fully connected layer alone would hold thousands of millions of weights."""


class LeNet(nn.Module):
    """LeCun et al. 1998 in its later form: 5x5 convolutions to 32 and 64 channels, each with 2x2 pooling, and 1024
    units with dropout. From [B, in_chans, H, H] to [B, 1024].
    """

    dim = 1024

    def __init__(self, in_chans: int = 3, image_size: int = 28) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.fc3 = nn.Linear(64 * (image_size // 4) ** 2, self.dim)
        self.dropout3 = nn.Dropout(0.5)
        _start(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.dropout3(F.relu(self.fc3(x.flatten(1))))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters make a layer, as timm's networks say it."""
        return {"layers": r"^[a-z]+(\d+)"}


class CifarNet(nn.Module):
    """Krizhevsky's network for CIFAR-10: 5x5 convolutions to 64 channels with 2x2 pooling and local response
    normalisation, then 384 and 192 units. From [B, in_chans, H, H] to [B, 192].
    """

    dim = 192

    def __init__(self, in_chans: int = 3, image_size: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        # Published as alpha 0.001 / 9 over a sum of 9 channels: torch takes the factor of their mean.
        self.norm = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
        self.fc3 = nn.Linear(64 * (image_size // 4) ** 2, 384)
        self.dropout3 = nn.Dropout(0.5)
        self.fc4 = nn.Linear(384, self.dim)
        _start(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.max_pool2d(F.relu(self.conv1(x)), 2))
        x = F.max_pool2d(self.norm(F.relu(self.conv2(x))), 2)
        x = self.dropout3(F.relu(self.fc3(x.flatten(1))))
        return F.relu(self.fc4(x))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters make a layer, as timm's networks say it."""
        return {"layers": r"^[a-z]+(\d+)"}


def _start(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
