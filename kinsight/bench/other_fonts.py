"""Symbols of the demo in fonts, strokes and bends that none of its training pictures had.

Each is drawn large, black on white, with strokes made thicker or thinner, turned, sheared and bent a little.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kinsight import storage
from kinsight.demo.alphabet import Symbol, alphabet
from kinsight.errors import DataError
from kinsight.reports.fonts import characters, open_font
from kinsight.specs.bench import BenchSymbols

_EM, _SIDE = 320, 512  # pixels
_MARGIN = 0.16


def choose(spec: BenchSymbols, rng: np.random.Generator, place: Path) -> list[tuple[Symbol, str]]:
    """Symbols of the demo that the fonts can draw, each with a font. Raises DataError for unsuitable fonts."""
    indexed = _labels(place)
    for font in spec.fonts:
        if not Path(font).is_file():
            raise DataError("bench.font", "no such file", field=f"fonts={font}", remedy="name font files (.ttf, .otf)")
    has = {font: characters(str(Path(font).absolute())) for font in spec.fonts}
    possible = [
        (symbol, fonts)
        for symbol in alphabet()
        if symbol.label in indexed and (fonts := [font for font in spec.fonts if symbol.code in has[font]])
    ]
    if len(possible) < spec.symbols:
        raise DataError(
            "bench.fonts",
            f"the fonts have {len(possible)} of the demo's symbols, {spec.symbols} are wanted",
            field="fonts",
            remedy="name fonts of more characters, or ask for fewer symbols",
        )
    rows = np.sort(rng.choice(len(possible), spec.symbols, replace=False))
    return [(possible[row][0], possible[row][1][rng.integers(len(possible[row][1]))]) for row in rows]


def _labels(place: Path) -> set[str]:
    lines = storage.read_text(place / "symbols" / "classes.tsv").splitlines()[1:]
    return {line.partition("\t")[0] for line in lines}


def typed(symbol: Symbol, font: str, rng: np.random.Generator) -> Image.Image:
    """The symbol as someone else would put it down: grey, _SIDE pixels, ink on white."""
    face = open_font(str(Path(font).absolute()), _EM)
    ink = Image.new("L", (3 * _EM, 3 * _EM))
    ImageDraw.Draw(ink).text((_EM, _EM), chr(symbol.code), font=face, fill=255, stroke_width=int(rng.integers(0, 9)))
    if rng.random() < 0.3:
        ink = ink.filter(ImageFilter.MinFilter(5))
    if ink.getbbox() is None:  # hairlines do not survive thinning
        ImageDraw.Draw(ink).text((_EM, _EM), chr(symbol.code), font=face, fill=255)
    bent = _bend(ink, rng).rotate(float(rng.uniform(-10, 10)), Image.Resampling.BICUBIC)
    bent = bent.crop(bent.getbbox())
    room = _SIDE * (1 - 2 * _MARGIN)
    factor = room / max(bent.size)
    size = (max(1, round(bent.width * factor)), max(1, round(bent.height * factor)))
    sheet = Image.new("L", (_SIDE, _SIDE), 255)
    bent = bent.resize(size, Image.Resampling.BICUBIC)
    at = ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2)
    sheet.paste(0, (*at, at[0] + size[0], at[1] + size[1]), bent)
    return sheet


def _bend(ink: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sheared, and pulled about by a mesh of four cells, each corner by up to a twentieth of the em."""
    width, height = ink.size
    steps = np.linspace(0, width, 3).astype(int)
    moved = rng.uniform(-_EM / 20, _EM / 20, (3, 3, 2))
    shear = rng.uniform(-0.12, 0.12)
    mesh = []
    for row in range(2):
        for column in range(2):
            corners = [(row, column), (row + 1, column), (row + 1, column + 1), (row, column + 1)]
            quad: list[float] = []
            for y, x in corners:
                quad += [steps[x] + moved[y, x, 0] + shear * (steps[y] - height / 2), steps[y] + moved[y, x, 1]]
            box = (int(steps[column]), int(steps[row]), int(steps[column + 1]), int(steps[row + 1]))
            mesh.append((box, tuple(float(value) for value in quad)))
    return ink.transform(ink.size, Image.Transform.MESH, mesh, Image.Resampling.BICUBIC)
