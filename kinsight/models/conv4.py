"""The four-layer network of few-shot learning, for pictures of a few dozen pixels."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

CONV4_DIM = 64
CONV4_SMALLEST = 16  # pixels: four halvings leave one position


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution to 64 channels, batch normalisation, ReLU, 2x2 max pooling.

    Vinyals et al. 2016, section 4.1. From [B, in_chans, H, W], at least 16 pixels a side, to [B, 64, H/16, W/16].
    """

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        widths = [in_chans, *[CONV4_DIM] * 4]
        # No bias: batch normalisation takes the mean away again.
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(CONV4_DIM) for _ in self.convs)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            # ReLU keeps order, so it commutes with the maximum; after pooling it has a quarter of the work.
            x = F.relu(F.max_pool2d(norm(conv(x)), 2), inplace=True)
        return x

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters make a layer, as timm's networks say it: here each block, coarse or fine."""
        return {"blocks": r"^(?:convs|norms)\.(\d+)"}
