"""Near copies: candidates by descriptors, then laid over each other in ever finer pictures.

A pair counts as a copy where one picture, laid over a part of the other, agrees with it everywhere. Two photographs of
one product, or two drawings of one character, can be made to agree on the whole, but not in each of their parts, or
only by reaching beyond the picture's edge. The thresholds stand between the values of 800 planted copies (encoded anew
at quality 40 to 95, half to 1.2 times the size, brightness 0.75 to 1.3; crops of 3/4 to 19/20 of each side) and those
of the most alike different images of Omniglot and Grocery Store: see `kinsight bench check`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kinsight import progress
from kinsight.checking.candidates import Pairs, candidate_pairs, taken
from kinsight.checking.descriptors import BOXES
from kinsight.checking.look import squeezed, upright
from kinsight.checking.registration import register
from kinsight.data import Records
from kinsight.data.decode import BrokenImage
from kinsight.data.processes import over_records
from kinsight.data.reading import read_image

LEAST_COSINE = 0.6
"""Planted crops of Omniglot and Grocery Store: 0.66 and above (36 parts, 12 x 12)."""
LEAST_ALIKE = 0.98
"""Correlation over the common part. Planted copies: 0.982 and above; 99 % of the most alike others: below 0.99."""
LEAST_WEAKEST = 0.92
"""The same in the weakest tenth of 6 x 6 windows that show something. Planted copies of Omniglot and Grocery Store: all
but one in 400 above. Of Fashion-MNIST's pictures, silhouettes of 28 pixels, one in 200 is so like another; their copies
at half the size are not told from those."""
MOST_REACH = 1.04
"""How far, in half sides, a picture may be seen at beyond the other's edge (1 is the edge). A copy shows nothing that
its original does not; two different drawings mostly agree only when one is shrunk."""
COLOUR_DIFFERENCE = 12.0
"""Mean difference of colour (chroma, of 255) up to which two coloured pictures are copies; re-encoding costs 1 to 5."""
FINE_SIDE = 96
_CHROMA_SIDE = 8
_PLAIN = 2.0  # mean chroma below which a picture is grey, and its copy may be too


class Stage(NamedTuple):
    """blurs, steps: see `register`. alike, weakest, reach: what a pair needs to go on. batch: pairs moved at once."""

    blurs: tuple[float, ...]
    steps: int
    alike: float
    weakest: float
    reach: float
    batch: int


# In pictures of 32 pixels planted copies have 0.92 after the first stage, 0.95 and (all but 1 %) 0.7 after the second.
_COARSE = (Stage((1.5,), 3, 0.8, -1.0, 1.4, 512), Stage((0.7,), 3, 0.94, 0.6, 1.12, 512))
_HALF = Stage((0.7,), 2, 0.965, 0.75, 1.08, 64)  # at half of FINE_SIDE, to be quickly rid of most
_FINE = Stage((1.0,), 4, LEAST_ALIKE, LEAST_WEAKEST, MOST_REACH, 64)
_FINE_BLOCK = 256  # pairs whose finer pictures are in memory at once, per answer of a process


class NearPairs(NamedTuple):
    """a_P, b_P: numbers of images, a < b; alike_P: correlation, 0 to 1."""

    a_P: npt.NDArray[np.int64]
    b_P: npt.NDArray[np.int64]
    alike_P: npt.NDArray[np.float32]

    def lists(self) -> tuple[list[int], list[int], list[float]]:
        """As Python numbers."""
        return self.a_P.tolist(), self.b_P.tolist(), self.alike_P.tolist()


NO_PAIRS = NearPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def near_pairs(
    records: Records, small_NHW: npt.NDArray[np.uint8], chosen_M: npt.NDArray[np.int64], *, workers: int
) -> NearPairs:
    """Copies among the images `chosen_M`, whose pixels are all different.

    small_NHW: small pictures of all images. Reads candidates once more. Raises StorageError, RunError.
    """
    small_MHW = small_NHW[chosen_M]
    pairs = candidate_pairs(small_MHW, LEAST_COSINE)
    placement_P4 = _first_guess(pairs)
    pairs, placement_P4 = _coarse(small_MHW, pairs, placement_P4)
    pairs = pairs._replace(part_P=chosen_M[pairs.part_P], whole_P=chosen_M[pairs.whole_P])
    return _fine(records, pairs, placement_P4, workers)


def _first_guess(pairs: Pairs) -> Tensor:
    """Where the whole picture lies on the other: the part that found it."""
    box_P4 = torch.tensor(BOXES, dtype=torch.float32)[torch.from_numpy(pairs.box_P)].reshape(-1, 4)
    left, top, width, height = box_P4.unbind(1)
    return torch.stack([width, 2 * left + width - 1, height, 2 * top + height - 1], 1)


def _coarse(small_MHW: npt.NDArray[np.uint8], pairs: Pairs, placement_P4: Tensor) -> tuple[Pairs, Tensor]:
    with progress.task("lay over", len(pairs.part_P), "pairs") as task:
        kept, placements = [], []
        block = _COARSE[0].batch
        for start in range(0, len(pairs.part_P), block):
            rows = np.arange(start, min(start + block, len(pairs.part_P)))
            task.advance(len(rows))
            place_B4 = placement_P4[start : start + block]
            for stage in _COARSE:
                fixed, moving = (_floats(small_MHW[side[rows]]) for side in (pairs.whole_P, pairs.part_P))
                good_B, place_B4, _ = _agree(fixed, moving, place_B4, stage)
                rows, place_B4 = rows[good_B.numpy()], place_B4[good_B]
                if not len(rows):
                    break
            kept.append(rows)
            placements.append(place_B4)
    if not kept:
        return pairs, placement_P4
    return taken(pairs, np.concatenate(kept)), torch.cat(placements)


def _fine(records: Records, pairs: Pairs, placement_P4: Tensor, workers: int) -> NearPairs:
    count = len(pairs.part_P)
    if not count:
        return NO_PAIRS
    starts = range(0, count, _FINE_BLOCK)
    blocks = [
        (pairs.whole_P[start : start + _FINE_BLOCK], pairs.part_P[start : start + _FINE_BLOCK]) for start in starts
    ]
    found: list[NearPairs] = []
    with progress.task("verify", count, "pairs") as task:
        answers = over_records(_read_pairs, records, blocks, workers)
        for start, (whole_P, part_P), (fixed, moving, same_colour) in zip(starts, blocks, answers, strict=True):
            for low in range(0, len(whole_P), _FINE.batch):
                here = np.arange(low, min(low + _FINE.batch, len(whole_P)))
                rows, alike_P = _verified(fixed[here], moving[here], placement_P4[start + here])
                right = same_colour[here[rows]]
                a, b = whole_P[here[rows]][right], part_P[here[rows]][right]
                found.append(NearPairs(np.minimum(a, b), np.maximum(a, b), alike_P[right]))
            task.advance(len(whole_P))
    return NearPairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _verified(
    fixed_BHW: npt.NDArray[np.uint8], moving_BHW: npt.NDArray[np.uint8], guess_B4: Tensor
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows of the pairs that are copies, and how alike these are."""
    fixed, moving = _floats(fixed_BHW), _floats(moving_BHW)
    half = torch.nn.functional.avg_pool2d
    good_B, guess_B4, _ = _agree(half(fixed, 2), half(moving, 2), guess_B4, _HALF)
    rows = good_B.nonzero().squeeze(1)
    good_B, _, alike_B = _agree(fixed[rows], moving[rows], guess_B4[rows], _FINE)
    return rows[good_B].numpy(), alike_B[good_B].numpy()


def _agree(fixed: Tensor, moving: Tensor, guess_B4: Tensor, stage: Stage) -> tuple[Tensor, Tensor, Tensor]:
    """Which pairs go on from a stage, their placements, and how alike they are."""
    fit = register(fixed, moving, guess_B4, blurs=stage.blurs, steps=stage.steps)
    scale_x, shift_x, scale_y, shift_y = fit.placement_B4.unbind(1)
    reach_B = torch.maximum(scale_x.abs() + shift_x.abs(), scale_y.abs() + shift_y.abs())
    good_B = (fit.alike_B >= stage.alike) & (fit.weakest_B >= stage.weakest) & (reach_B <= stage.reach)
    return good_B, fit.placement_B4, fit.alike_B.clamp(0, 1)


def _floats(image_BHW: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(image_BHW)).float() / 255


def _read_pairs(
    records: Records, block: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Finer pictures of both sides, and whether their colours agree."""
    wanted, place = np.unique(np.stack(block), return_inverse=True)
    seen = [_finer(records.uri(i)) for i in wanted]
    luma = np.stack([one[0] for one in seen])[place.reshape(2, -1)]
    chroma = np.stack([one[1] for one in seen])[place.reshape(2, -1)]
    return luma[0], luma[1], _same_colour(chroma[0], chroma[1])


def _finer(uri: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    """Luma (FINE_SIDE, FINE_SIDE), and coarse chroma about zero (2, 8, 8); all zero for one gone meanwhile."""
    try:
        picture = upright(read_image(uri))
    except BrokenImage:
        return np.zeros((FINE_SIDE, FINE_SIDE), np.uint8), np.zeros((2, _CHROMA_SIDE, _CHROMA_SIDE), np.int16)
    luma = squeezed(picture.convert("L"), FINE_SIDE)
    if picture.mode == "L":
        return luma, np.zeros((2, _CHROMA_SIDE, _CHROMA_SIDE), np.int16)
    chroma = squeezed(picture, _CHROMA_SIDE)
    ycc = rgb_to_chroma(chroma.astype(np.float32))
    return luma, np.moveaxis(ycc, -1, 0).round().astype(np.int16)


def rgb_to_chroma(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cb and Cr about zero (JPEG's matrix) of RGB in the last axis."""
    matrix = np.array([[-0.168736, 0.5], [-0.331264, -0.418688], [0.5, -0.081312]], np.float32)
    return rgb @ matrix


def _same_colour(a_P2HW: npt.NDArray[np.int16], b_P2HW: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Mean colours agree, or one side is grey: crops show other parts, so only means are compared."""
    axes = (2, 3)
    grey = (np.abs(a_P2HW).mean((1, *axes)) < _PLAIN) | (np.abs(b_P2HW).mean((1, *axes)) < _PLAIN)
    difference = np.abs(a_P2HW.mean(axes) - b_P2HW.mean(axes)).max(1)
    return grey | (difference <= COLOUR_DIFFERENCE)
