"""One character in one face as a picture of fixed size, and how alike two such pictures are.

Size and position carry no class: a glyph is scaled until its longer side is FIT pixels and centred, so c and C,
or a full stop and a bullet, come out alike and become one class.

Shapes: N glyphs, S = SIDE.
"""

import unicodedata

import numpy as np
from PIL import Image

from kinsight.reports.fonts import characters, open_font

SIDE = 64
FIT = 54
CELLS = 16  # a signature is CELLS x CELLS
LEVELS = 15  # so few that sums of products stay below 2**24: exact in float32 in any order, on any number of threads

BRAILLE = range(0x2800, 0x2900)
LETTER_FACES = ("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10")  # their other places hold TeX's own characters
FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *LETTER_FACES,
)
_SMALL, _LARGE = 96, 384  # pixels per em; the larger only for marks as small as a full stop


def family(face: str) -> str:
    """The design a face belongs to: its weights and slants are one family."""
    for name in ("DejaVuSansMono", "DejaVuSerif", "DejaVuSans", "STIXGeneral"):
        if face.startswith(name):
            return name
    return face


def candidates(face: str) -> list[int]:
    """Code points of letters, numbers, punctuation and symbols in the face, ascending.

    Not: marks that combine with another character, spaces, controls, private use, unassigned; letters of mathematics
    that are another letter in a style (a bold or double-struck R), since style is the face's matter; Braille, whose
    dots say nothing without their place in the cell.
    """
    if face in LETTER_FACES:
        return [code for code in range(128) if chr(code).isalnum()]
    return sorted(code for code in characters(face) if _stands_alone(code))


def _stands_alone(code: int) -> bool:
    char = chr(code)
    styled = unicodedata.decomposition(char).startswith("<font>")
    return unicodedata.category(char)[0] in "LNPS" and not styled and code not in BRAILLE


def glyph(face: str, code: int) -> np.ndarray | None:
    """The character's ink, SxS uint8 (255 = ink); None where the face draws nothing."""
    text = chr(code)
    mask = open_font(face, _SMALL).getmask(text, "L")
    box = mask.getbbox()
    if box is None:
        return None
    if max(box[2] - box[0], box[3] - box[1]) < FIT // 2:
        mask = open_font(face, _LARGE).getmask(text, "L")
        box = mask.getbbox()
        assert box is not None, (face, code)
    width, height = mask.size
    ink = Image.new("L", (width, height))
    ink.im.paste(mask, (0, 0, width, height))
    ink = ink.crop(box)
    factor = FIT / max(ink.size)
    size = (max(1, round(ink.width * factor)), max(1, round(ink.height * factor)))
    ink = ink.resize(size, Image.Resampling.BICUBIC)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(ink, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(canvas)


def signatures(glyph_NSS: np.ndarray) -> np.ndarray:
    """What `distances` compares: [N, CELLS * CELLS] float32 holding whole numbers 0..LEVELS.

    Softened over neighbouring cells, so that a stroke moved by a few pixels still overlaps with itself.
    """
    step = SIDE // CELLS
    cell = glyph_NSS.reshape(-1, CELLS, step, CELLS, step).mean(axis=(2, 4), dtype=np.float32)
    for axis in (1, 2):  # the margin around the ink keeps it from wrapping
        cell = (np.roll(cell, 1, axis) + 2.0 * cell + np.roll(cell, -1, axis)) / 4.0
    return np.rint(cell * (LEVELS / 255.0)).astype(np.float32).reshape(-1, CELLS * CELLS)


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[len(left), len(right)] float32: squared difference over summed squared ink, 0 (the same) to 1 (no overlap)."""
    norm_left, norm_right = (left * left).sum(1), (right * right).sum(1)
    total = norm_left[:, None] + norm_right[None, :]
    return (total - 2.0 * (left @ right.T)) / total
