"""Ordinary symbols as people put them down by hand: paths of a pen, and one person's way of drawing them.

STROKES: what is drawn -> its strokes. Several characters stand together where a hand draws them alike, since a pad
tells neither size nor place: any of them is a right answer. A stroke is a list of points x,y in a square of 100, y
down; with ~ in front the pen goes through them in a curve.
"""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

_RING = "~50,0 15,15 2,50 15,85 50,100 85,85 98,50 85,15 50,0"
STROKES: dict[str, str] = {
    "A": "0,100 50,0 100,100; 20,62 80,62",
    "B": "10,0 10,100; ~10,0 55,3 68,24 52,44 10,48; ~10,48 62,52 78,75 60,97 10,100",
    "Cc": "~85,18 55,0 20,18 5,50 20,85 55,100 88,82",
    "D": "10,0 10,100; ~10,0 55,6 85,50 55,94 10,100",
    "E": "80,0 10,0 10,100 80,100; 10,48 68,48",
    "F": "80,0 10,0 10,100; 10,48 65,48",
    "G": "~85,18 55,0 20,18 5,50 20,85 55,100 85,85 88,58; 88,58 58,58",
    "H": "10,0 10,100; 85,0 85,100; 10,50 85,50",
    "J": "~65,0 66,60 55,92 30,100 8,80",
    "K": "10,0 10,100; 75,0 10,55; 28,42 80,100",
    "L": "10,0 10,100 75,100",
    "M": "5,100 12,0 50,65 88,0 95,100",
    "N": "10,100 10,0 85,100 85,0",
    "Oo0": _RING,
    "P": "10,0 10,100; ~10,0 60,4 78,28 58,52 10,55",
    "Q": f"{_RING}; 60,70 98,108",
    "R": "10,0 10,100; ~10,0 60,4 78,28 58,52 10,55; 40,55 82,100",
    "Ss": "~82,15 50,0 18,15 22,38 50,48 80,62 82,85 50,100 12,85",
    "T": "0,0 90,0; 45,0 45,100",
    "U": "~8,0 8,55 20,88 45,100 70,88 82,55 82,0",
    "Vv": "0,0 45,100 90,0",
    "Ww": "0,0 28,100 55,25 82,100 110,0",
    "Xx×": "0,0 85,100; 85,0 0,100",
    "Y": "0,0 42,48; 85,0 42,48 42,100",
    "Zz": "5,0 85,0 5,100 88,100",
    "a": "~20,30 45,15 70,25 75,50 75,95; ~75,50 40,52 15,70 30,95 60,90 75,70",
    "b": "10,0 10,100; ~10,60 40,40 70,50 72,80 45,100 10,88",
    "d": "72,0 72,100; ~72,60 42,40 12,50 10,80 37,100 72,88",
    "e": "10,55 85,55; ~85,55 75,20 45,5 15,25 8,60 30,95 65,97 85,80",
    "f": "~70,8 48,2 38,25 38,100; 10,38 62,38",
    "g": "~70,15 40,0 12,20 15,50 42,62 70,45; ~72,5 73,70 60,98 35,100 12,88",
    "h": "10,0 10,100; ~10,60 40,38 65,50 68,100",
    "k": "10,0 10,100; 60,40 10,72; 25,62 62,100",
    "m": "5,10 5,100; ~5,35 28,10 45,30 45,100; ~45,35 70,10 88,30 88,100",
    "n": "10,10 10,100; ~10,40 40,10 65,25 68,100",
    "r": "15,10 15,100; ~15,45 35,15 65,15",
    "t": "~40,0 40,75 50,97 72,92; 10,28 72,28",
    "y": "5,0 42,62; 85,0 20,110",
    "i": "50,38 50,100; 50,5 50,6",
    "1": "15,25 50,0 50,100",
    "2": "~8,25 25,3 60,2 75,25 55,58 8,100; 8,100 82,100",
    "3": "~10,12 45,0 72,20 60,42 35,47; ~35,47 75,55 78,82 45,102 5,88",
    "4": "60,100 60,0 0,70 85,70",
    "5": "75,0 20,0 15,42; ~15,42 50,35 78,60 65,92 35,100 8,90",
    "6": "~68,3 35,20 10,65 25,98 60,98 75,72 55,50 25,55 12,72",
    "7": "5,0 80,0 35,100",
    "8": "~50,48 15,25 45,0 78,22 50,48 12,75 45,102 85,76 50,48",
    "9": "~75,25 50,0 18,20 20,48 50,55 75,28; ~76,20 75,60 50,100",
    "→": "0,50 100,50; 70,25 100,50 70,75",
    "←": "0,50 100,50; 30,25 0,50 30,75",
    "↑": "50,0 50,100; 25,30 50,0 75,30",
    "↓": "50,0 50,100; 25,70 50,100 75,70",
    "↔": "0,50 100,50; 22,28 0,50 22,72; 78,28 100,50 78,72",
    "↗": "0,100 95,5; 45,0 97,3 95,55",
    "⇒": "0,38 85,38; 0,62 85,62; 65,15 100,50 65,85",
    "+": "0,50 100,50; 50,0 50,100",
    "=": "0,30 100,30; 0,70 100,70",
    "≠": "0,30 100,30; 0,70 100,70; 75,0 25,100",
    "<": "95,5 5,50 95,95",
    ">": "5,5 95,50 5,95",
    "≤": "90,0 5,38 90,76; 5,100 92,100",
    "≥": "5,0 92,38 5,76; 5,100 92,100",
    "±": "0,40 90,40; 45,0 45,80; 0,100 90,100",
    "÷": "0,50 100,50; 50,12 50,13; 50,88 50,89",
    "≈": "~0,35 22,18 50,32 75,45 100,28; ~0,72 22,55 50,70 75,83 100,66",
    "∞": "~50,50 25,22 2,50 25,78 50,50 75,22 98,50 75,78 50,50",
    "√": "0,60 18,52 40,100 72,0 120,0",
    "∑Σ": "82,5 8,0 48,50 5,100 88,97",
    "∫": "~72,8 58,0 46,25 44,75 32,100 16,92",
    "∂": "~20,12 48,0 75,30 70,75 42,100 15,82 22,52 50,42 74,58",
    "∈": "~85,5 35,8 8,50 35,92 85,95; 8,50 80,50",
    "∀": "0,0 48,100 96,0; 22,42 76,42",
    "∃": "10,0 78,0 78,100 10,100; 22,48 78,48",
    "α": "~92,5 70,55 40,95 10,75 8,35 35,8 62,35 75,80 95,95",
    "β": "~12,110 12,20 38,0 62,15 48,42 28,45; ~28,45 70,55 68,85 40,92 14,82",
    "δ": "~70,5 35,0 28,20 60,45 78,75 45,100 12,75 30,45 55,42",
    "θ": "~45,0 18,20 10,50 18,80 45,100 72,80 80,50 72,20 45,0; 11,50 80,50",
    "λ": "~5,2 25,8 50,55 85,100; 42,42 5,100",
    "μ": "~15,110 15,0; ~15,0 15,55 35,75 65,55; ~65,0 66,60 85,75",
    "π": "0,8 100,8; 28,8 22,100; 70,8 74,100",
    "σ": "~95,12 55,10 20,20 8,55 30,95 65,92 78,55 55,12",
    "φΦ": "~50,20 12,35 12,65 50,80 88,65 88,35 50,20; 50,0 50,105",
    "ψΨ": "~5,10 10,50 50,70 90,50 95,10; 50,0 50,105",
    "ω": "~15,10 2,55 22,95 48,70 50,45; ~50,45 52,72 75,95 98,55 85,10",
    "Γ": "10,100 10,0 80,0",
    "Δ": "50,0 0,100 100,100 50,0",
    "Λ": "0,100 48,0 96,100",
    "Ξ": "5,0 95,0; 18,50 82,50; 5,100 95,100",
    "Π": "10,100 10,0 85,0 85,100",
    "Ω": "~0,98 30,97; ~30,97 8,60 15,20 50,0 85,20 92,60 70,97; 70,97 100,98",
    "%": "90,0 10,100; ~20,0 2,20 20,40 38,20 20,0; ~80,60 62,80 80,100 98,80 80,60",
    "#": "38,0 25,100; 78,0 65,100; 5,32 98,32; 0,68 92,68",
    "$": "~85,20 50,8 18,22 30,45 70,55 82,78 50,92 12,80; 50,0 50,100",
    "@": "~66,38 48,30 34,50 46,70 64,60 67,36; ~67,36 70,68 95,60 90,20 50,0 10,22 5,65 40,100 80,92",
    "&": "~95,100 30,30 30,5 55,2 58,25 20,55 10,82 35,100 65,88 88,55",
    "?": "~8,22 25,2 60,2 72,25 42,50 40,72; 40,97 40,98",
    "!": "50,0 50,70; 50,98 50,99",
    "~": "~0,60 22,38 50,50 75,64 100,42",
    "€": "~90,12 55,0 25,25 20,50 25,78 55,100 90,88; 0,40 65,40; 0,60 60,60",
    "☆★": "50,0 62,38 100,38 69,60 80,97 50,74 20,97 31,60 0,38 38,38 50,0",
    "♥♡": "~50,28 30,2 3,18 12,55 50,98; ~50,28 70,2 97,18 88,55 50,98",
    "☺": f"{_RING}; 33,36 33,37; 67,36 67,37; ~25,62 38,78 62,78 75,62",
    "✓": "0,60 32,100 100,0",
}  # fmt: skip
# As the page's pad does (serving/static/search.js): SENT pixels, a round pen WIDTH of them wide, MARGIN left free.
SENT, WIDTH, MARGIN, _SMALLEST = 256, 0.07, 0.14, 40
_FINE = 4  # drawn larger and reduced, as a browser's smooth edges
_STEPS = 12  # points of a curve from one given point to the next


def strokes_of(text: str) -> list[np.ndarray]:
    """Strokes [points, 2] of one entry of STROKES, curves as many short lines."""
    parsed = []
    for part in text.split(";"):
        words = part.strip().removeprefix("~").split()
        points = np.array([[float(number) for number in word.split(",")] for word in words])
        parsed.append(_curve(points) if part.strip().startswith("~") else _subdivided(points))
    return parsed


def by_hand(strokes: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The strokes as somebody draws them once, on a pad of 640: slanted, stretched, wavering, each set down a little
    off its place, in pixels of the pointer.
    """
    angle, slant = np.deg2rad(rng.normal(0, 4)), rng.normal(0, 0.08)
    wide, high = np.exp(rng.normal(0, 0.09, 2)) * rng.uniform(2.2, 5.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    form = turn @ np.array([[wide, slant * high], [0, high]])
    bend = rng.normal(0, 2.2, (2, 4, 4))
    drawn = []
    for stroke in strokes:
        moved = stroke + _field(bend, stroke) + rng.normal(0, 1.6, 2) + _tremor(len(stroke), rng)
        reach = rng.normal(0, 0.02, 2)  # a stroke ends a little short or too far
        moved[0] += reach[0] * (moved[0] - moved[min(3, len(moved) - 1)])
        moved[-1] += reach[1] * (moved[-1] - moved[-min(4, len(moved))])
        drawn.append(np.rint((moved - 50) @ form.T + 320))
    return drawn


def pad_picture(strokes: list[np.ndarray]) -> Image.Image:
    """The picture that the page sends for strokes on its pad: grey, SENT x SENT."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = (SENT * (1 - 2 * MARGIN) - SENT * WIDTH) / max(*(high - low), _SMALLEST)
    sheet = Image.new("L", (SENT * _FINE, SENT * _FINE), 255)
    pen, radius = ImageDraw.Draw(sheet), SENT * WIDTH * _FINE / 2
    for stroke in strokes:
        placed = ((stroke - (low + high) / 2) * scale + SENT / 2) * _FINE
        pen.line([tuple(point) for point in placed], fill=17, width=round(2 * radius))
        for x, y in placed:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=17)
    return sheet.resize((SENT, SENT), Image.Resampling.BOX)


def _curve(points: np.ndarray) -> np.ndarray:
    """Through the points without corners (Catmull and Rom 1974); closed where the last is the first."""
    closed = bool((points[0] == points[-1]).all())
    before = points[-2] if closed else 2 * points[0] - points[1]
    after = points[1] if closed else 2 * points[-1] - points[-2]
    knots = np.concatenate([before[None], points, after[None]])
    t = (np.arange(_STEPS) / _STEPS)[:, None]
    parts = []
    for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        parts.append(b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2))
    return np.concatenate([*parts, points[-1:]])


def _subdivided(points: np.ndarray) -> np.ndarray:
    t = (np.arange(_STEPS) / _STEPS)[:, None]
    parts = [a + t * (b - a) for a, b in pairwise(points)]
    return np.concatenate([*parts, points[-1:]])


def _field(bend: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A smooth displacement of the whole sheet: bend's values on a lattice, joined linearly, read at the points."""
    place = np.clip(at / 110 * 3, 0, 2.999)
    cell = place.astype(int)
    fx, fy = (place - cell).T
    x, y = cell.T
    corners = (
        bend[:, y, x] * (1 - fx) * (1 - fy) + bend[:, y, x + 1] * fx * (1 - fy)
        + bend[:, y + 1, x] * (1 - fx) * fy + bend[:, y + 1, x + 1] * fx * fy
    )  # fmt: skip
    return corners.T


def _tremor(count: int, rng: np.random.Generator) -> np.ndarray:
    """Slow wavering along a stroke: a random walk's steps, smoothed."""
    noise = rng.normal(0, 1.0, (count + 8, 2))
    kernel = np.ones(9) / 9
    return np.stack([np.convolve(noise[:, axis], kernel, "valid") for axis in (0, 1)], axis=1) * 2.0
