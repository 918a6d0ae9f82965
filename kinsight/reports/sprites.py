"""Many small pictures in few files: sheets that a page decodes only where somebody looks."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from kinsight import progress
from kinsight.reports.images import Images

SIDES = (64, 48, 32, 24)  # pixels; the largest that the budget allows
PER_SHEET = 256
_COLUMNS = 16
_TRIAL = 96  # pictures by which the side is chosen
_QUALITY = 72
_PNG, _JPEG = "image/png", "image/jpeg"


@dataclass(frozen=True)
class Sprites:
    """sheets: encoded files, each with up to PER_SHEET pictures in rows of 16, `side` pixels square.

    place_N: int32, the number of each item's picture over all sheets; -1 without one.
    """

    side: int
    place_N: np.ndarray
    sheets: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many items have a picture."""
        return int((self.place_N >= 0).sum())

    def addresses(self) -> list[str]:
        """The sheets as addresses that hold them."""
        return [f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}" for data, kind in self.sheets]


def sprites(images: Images, uris: list[str], *, budget: int, seed: int) -> Sprites:
    """Pictures of as many items as fit into `budget` bytes, in an order drawn by seed."""
    place_N = np.full(len(uris), -1, np.int32)
    order = np.random.default_rng(seed).permutation(len(uris)).tolist()
    side, kind = _choose(images, [uris[row] for row in order[:_TRIAL]], len(uris), budget)
    found = Sprites(side, place_N)
    if not side or images.absent:
        return found
    spent, tiles, rows = 0, [], []
    with progress.task("thumbnails", len(uris), "images") as task:
        for row, image in zip(order, images.many([uris[row] for row in order], side), strict=True):
            task.advance()
            if image is not None:
                tiles.append(image)
                rows.append(row)
            if len(tiles) == PER_SHEET:
                sheet = _sheet(tiles, side, kind)
                if spent + len(sheet[0]) > budget:
                    return found
                spent += len(sheet[0])
                _keep(found, sheet, rows)
                tiles, rows = [], []
    if tiles and spent + len((sheet := _sheet(tiles, side, kind))[0]) <= budget:
        _keep(found, sheet, rows)
    return found


def _keep(found: Sprites, sheet: tuple[bytes, str], rows: list[int]) -> None:
    found.place_N[rows] = len(found.sheets) * PER_SHEET + np.arange(len(rows))
    found.sheets.append(sheet)


def _choose(images: Images, uris: list[str], count: int, budget: int) -> tuple[int, str]:
    """The largest side at which all pictures should fit, else the smallest, and the format that takes less room; a
    side of 0 where there are no pictures.
    """
    if budget <= 0:
        return 0, _JPEG
    trial = [image for image in images.many(uris, SIDES[0]) if image is not None]
    if not trial:
        return 0, _JPEG
    grey = all(image.ndim == 2 for image in trial)
    smallest = (SIDES[-1], _JPEG)
    for side in SIDES:
        tiles = [_within(image, side) for image in trial]
        size, kind = min((len(_sheet(tiles, side, kind)[0]), kind) for kind in ((_PNG, _JPEG) if grey else (_JPEG,)))
        if size * count <= 0.95 * budget * len(trial):
            return side, kind
        smallest = side, kind
    return smallest


def _within(image: np.ndarray, side: int) -> np.ndarray:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    return np.asarray(picture)


def _sheet(tiles: Sequence[np.ndarray], side: int, kind: str) -> tuple[bytes, str]:
    """One file and its media type; grey where all is grey. Gaps are white."""
    grey = all(tile.ndim == 2 for tile in tiles)
    rows = -(-len(tiles) // _COLUMNS)
    page = np.full((rows * side, min(len(tiles), _COLUMNS) * side, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        height, width = tile.shape[:2]
        top = number // _COLUMNS * side + (side - height) // 2
        left = number % _COLUMNS * side + (side - width) // 2
        page[top : top + height, left : left + width] = tile[:, :, None] if tile.ndim == 2 else tile
    whole, stream = Image.fromarray(page[:, :, 0] if grey else page), io.BytesIO()
    if kind == _PNG:
        whole.save(stream, "PNG")
    else:
        whole.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue(), kind
