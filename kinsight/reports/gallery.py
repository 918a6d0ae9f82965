"""A page of queries with their nearest neighbours, as one PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from kinsight import storage
from kinsight.reports.captions import Color, draw_line, fold, shorten, text_width
from kinsight.reports.curves import training_picture

__all__ = ["Neighbour", "Picture", "Retrieval", "retrieval_picture", "training_picture"]

INK: Color = (31, 36, 48)
QUIET: Color = (112, 119, 133)
RULE: Color = (222, 226, 233)
PAPER: Color = (255, 255, 255)
MATTE: Color = (244, 246, 249)
RIGHT: Color = (26, 148, 82)
WRONG: Color = (208, 52, 56)

# Pixels. The page is drawn about twice as wide as it is shown, so that it stays sharp on dense screens.
_TILE, _FRAME, _GAP, _PAD, _ROW_GAP = 148, 6, 18, 44, 22
_CAPTION, _LINE, _TITLE, _NOTE = 18, 25, 32, 21


@dataclass(frozen=True)
class Picture:
    """An image with the name of its class. image: uint8, HxW, HxWx1 or HxWx3."""

    image: np.ndarray
    caption: str


@dataclass(frozen=True)
class Neighbour(Picture):
    """A retrieved image. similarity: as the metric has it, cosine usually. same: of the query's class."""

    similarity: float
    same: bool


@dataclass(frozen=True)
class Retrieval:
    """A query and its nearest neighbours, nearest first."""

    query: Picture
    neighbours: tuple[Neighbour, ...]


def retrieval_picture(rows: Sequence[Retrieval], path: storage.AddressLike, *, title: str = "", note: str = "") -> None:
    """Write the page as a PNG: a row for each query, green frames for its class, red ones with a cross for others.

    title: the headline, with the numbers. note: a quieter line under it. Rows may differ in their number of neighbours.
    ValueError without rows, or for images of another shape or type.
    """
    if not rows:
        raise ValueError("rows: expected at least one retrieval to show")
    columns = max(len(row.neighbours) for row in rows)
    lines = max(len(_caption(picture)) for row in rows for picture in (row.query, *row.neighbours))
    width = 2 * _PAD + _TILE + 2 * _GAP + columns * (_TILE + _GAP)
    top = _PAD + (_TITLE + 20 if title else 0) + (_NOTE + 18 if note else 0)
    step = _TILE + 8 + (lines + 1) * _LINE + _ROW_GAP
    page = Image.new("RGB", (width, top + _LINE + 12 + len(rows) * step - _ROW_GAP + _PAD - 10), PAPER)
    canvas = ImageDraw.Draw(page)
    _draw_head(canvas, width, title, note)
    _draw_ranks(canvas, top, columns)
    for number, row in enumerate(rows):
        _draw_row(page, canvas, top + _LINE + 12 + number * step, row)
    rule = _PAD + _TILE + int(1.5 * _GAP)
    canvas.line((rule, top, rule, page.height - _PAD), fill=RULE, width=2)
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    storage.write_bytes(path, file.getvalue())


def _draw_head(canvas: ImageDraw.ImageDraw, width: int, title: str, note: str) -> None:
    room, y = width - 2 * _PAD, _PAD - 8
    if title:
        size = _TITLE
        while size > _NOTE and text_width(title, size=size, bold=True) > room:
            size -= 1
        draw_line(canvas, (_PAD, y), shorten(title, room, size=size, bold=True), size=size, color=INK, bold=True)
        y += _TITLE + 18
    if note:
        draw_line(canvas, (_PAD, y), shorten(note, room, size=_NOTE), size=_NOTE, color=QUIET)


def _draw_ranks(canvas: ImageDraw.ImageDraw, y: int, columns: int) -> None:
    draw_line(canvas, (_PAD + _TILE / 2, y), "query", size=_CAPTION, color=QUIET, center=True)
    for rank in range(columns):
        draw_line(canvas, (_left(rank) + _TILE / 2, y), str(rank + 1), size=_CAPTION, color=QUIET, center=True)


def _draw_row(page: Image.Image, canvas: ImageDraw.ImageDraw, y: int, row: Retrieval) -> None:
    _draw_tile(page, canvas, (_PAD, y), row.query, None)
    for rank, neighbour in enumerate(row.neighbours):
        color = RIGHT if neighbour.same else WRONG
        _draw_tile(page, canvas, (_left(rank), y), neighbour, color)
        mark = "✓" if neighbour.same else "✗"  # not everybody tells the colours apart
        place = (_left(rank) + _TILE / 2, y + _TILE + 8)
        draw_line(canvas, place, f"{mark} {neighbour.similarity:.2f}", size=_CAPTION, color=color, center=True)


def _draw_tile(
    page: Image.Image, canvas: ImageDraw.ImageDraw, place: tuple[int, int], picture: Picture, frame: Color | None
) -> None:
    x, y = place
    inner = _TILE - 2 * _FRAME
    box = (x, y, x + _TILE - 1, y + _TILE - 1)
    canvas.rectangle(box, fill=frame or RULE)
    canvas.rectangle((x + _FRAME, y + _FRAME, x + _TILE - 1 - _FRAME, y + _TILE - 1 - _FRAME), fill=MATTE)
    image = _fit(picture.image, inner)
    page.paste(image, (x + _FRAME + (inner - image.width) // 2, y + _FRAME + (inner - image.height) // 2))
    below = y + _TILE + 8 + (0 if frame is None else _LINE)
    for number, line in enumerate(_caption(picture)):
        draw_line(canvas, (x + _TILE / 2, below + number * _LINE), line, size=_CAPTION, color=INK, center=True)


def _caption(picture: Picture) -> list[str]:
    return fold(picture.caption, _TILE + _GAP - 8, lines=2, size=_CAPTION)


def _left(rank: int) -> int:
    return _PAD + _TILE + 3 * _GAP + rank * (_TILE + _GAP) - _GAP // 2


def _fit(image: np.ndarray, side: int) -> Image.Image:
    """As an RGB picture whose longer side is `side`, proportions kept."""
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))):
        raise ValueError(f"image: expected uint8 of shape HxW, HxWx1 or HxWx3, got {image.dtype} {image.shape}")
    flat = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    picture = Image.fromarray(np.ascontiguousarray(flat)).convert("RGB")
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS)
