"""Images made of two: mixup and cutmix, for one class an image and for many labels.

Neighbours in a batch are mixed, each with the other: the first with the second, the third with the fourth; processes
share a batch by such pairs, so that their number changes nothing. What is drawn depends on seed, epoch and image alone.

Shapes: B images of this process.
"""

from typing import NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor

from kinsight.data.random import Purpose, uniform, words
from kinsight.specs.tasks import Cutmix, Mix, Mixup, NoMix

TOGETHER = 2
"""Images of a batch that stay on one process."""


class Mixed(NamedTuple):
    """images_BCHW: uint8, or float in 0..255. target: of many labels, mixed; else that of the image itself, and then
    other_B, share_B: the other image's class, and the image's own share of the picture.
    """

    images_BCHW: Tensor
    target: Tensor
    other_B: Tensor | None = None
    share_B: Tensor | None = None

    @property
    def classes(self) -> tuple[Tensor, Tensor] | None:
        """What an objective over classes wants to know of mixed images."""
        return (self.other_B, self.share_B) if self.other_B is not None and self.share_B is not None else None


def mix_images(mix: Mix, images_BCHW: Tensor, target: Tensor, *, seed: int, epoch: int, index_B: Tensor) -> Mixed:
    """The images of a batch, each mixed with its neighbour; a last one without neighbour stays as it is.

    target: int64 class ids (B,), or float (B, C) of labels with -1 for unknown. index_B: record numbers.
    """
    match mix:
        case NoMix():
            return Mixed(images_BCHW, target)
        case Mixup():
            share_B, mate_B = _shares(mix.alpha, seed, epoch, index_B)
            weight_B111 = share_B.to(images_BCHW.device)[:, None, None, None]
            own_BCHW = images_BCHW.float()
            mixed_BCHW = torch.lerp(own_BCHW[mate_B], own_BCHW, weight_B111)
        case Cutmix():
            share_B, mate_B = _shares(mix.alpha, seed, epoch, index_B)
            height, width = images_BCHW.shape[2:]
            inside_BHW, share_B = _rectangles(share_B, height, width, seed, epoch, index_B)
            inside = inside_BHW.to(images_BCHW.device)[:, None]
            mixed_BCHW = torch.where(inside, images_BCHW[mate_B], images_BCHW)
        case _:
            assert_never(mix)
    share_B = share_B.to(target.device)
    if target.dim() == 1:
        return Mixed(mixed_BCHW, target, target[mate_B], share_B)
    return Mixed(mixed_BCHW, mixed_labels(target, target[mate_B], share_B))


def mixed_labels(target_BC: Tensor, other_BC: Tensor, share_B: Tensor) -> Tensor:
    """Targets of many labels for pictures made of two: min(1, 2 (share * own + (1 - share) * other)).

    A label says whether something is in the picture, not what share of it: at half and half both are, so the target is
    the union of both images' labels. What has less than half of the picture counts less, down to nothing where it has
    no share; a label of both images is a whole one whatever the shares. (Shares that add up to 1, as for one class an
    image, would teach that each of two things in a picture is half there.)
    A target of an unknown label (-1) is known only where it would be the same either way.
    """
    share_B1 = share_B[:, None].to(target_BC.dtype)

    def mixed(unknown: float) -> Tensor:
        own_BC, mates_BC = (torch.where(part_BC < 0, unknown, part_BC) for part_BC in (target_BC, other_BC))
        return (2 * (share_B1 * own_BC + (1 - share_B1) * mates_BC)).clamp_max(1)

    low_BC, high_BC = mixed(0.0), mixed(1.0)
    return torch.where(low_BC == high_BC, low_BC, -1.0)


def local_rows(indices: np.ndarray, rank: int, world: int, *, together: int = 1) -> np.ndarray:
    """A process's part of a batch, whose images stay together so many at a time."""
    if together == 1:
        return np.array_split(indices, world)[rank]
    first_P = np.array_split(np.arange(0, len(indices), together), world)[rank]
    return indices[first_P[0] : first_P[-1] + together] if len(first_P) else indices[:0]


def _shares(alpha: float, seed: int, epoch: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's own share, float32 from Beta(alpha, alpha), and the row of its neighbour."""
    rows = len(index_B)
    mate_B = torch.arange(rows) ^ 1
    word_B = words(seed, epoch, index_B.numpy(), 1, purpose=Purpose.MIX_SHARE)[:, 0]
    drawn = [np.random.Generator(np.random.PCG64(int(word))).beta(alpha, alpha) for word in word_B]
    share_B = torch.tensor(drawn, dtype=torch.float32)
    if rows % TOGETHER:
        mate_B[-1], share_B[-1] = rows - 1, 1.0
    return share_B, mate_B


def _rectangles(
    share_B: Tensor, height: int, width: int, seed: int, epoch: int, index_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the neighbour shows, bool (B, H, W), and what share that leaves to the image.

    Sides are sqrt(1 - share) of the picture's, the centre is anywhere in it and what goes beyond the border is cut
    off. Yun et al. 2019, section 3.1.
    """
    centre_B2 = torch.from_numpy(uniform(seed, epoch, index_B.numpy(), 2, purpose=Purpose.MIX_PLACE)).float()
    side_B = (1 - share_B).clamp_min(0).sqrt()
    down_BH = _between(centre_B2[:, 0], side_B, height)
    right_BW = _between(centre_B2[:, 1], side_B, width)
    inside_BHW = down_BH[:, :, None] & right_BW[:, None, :]
    return inside_BHW, 1 - inside_BHW.flatten(1).float().mean(1)


def _between(centre_B: Tensor, side_B: Tensor, length: int) -> Tensor:
    """Pixels (B, length) of which the middle is within half a side of the centre, both as shares of the length."""
    middle_L = (torch.arange(length) + 0.5) / length
    return (middle_L[None] - centre_B[:, None]).abs() < side_B[:, None] / 2
