"""Many small distortions at once, so that no two pictures of a class are alike pixel by pixel.

Ink in, picture out: stroke weight, rotation, size, slant, place, elastic warp, softness, paper, light and noise.

Shapes: N pictures, S side of the ink, T side of the picture.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distortion:
    """How far each change goes; all are drawn evenly between the bounds, noise normally."""

    rotate_deg: float = 14.0
    slant: float = 0.18  # horizontal shift per unit of height
    stretch: float = 0.14  # one axis against the other
    smallest: float = 0.55  # longer side of the glyph, as a share of the picture's side
    largest: float = 0.88
    warp: float = 1.3  # pixels of the picture
    weight: tuple[float, float] = (0.26, 0.56)  # level at which softened ink counts as ink: high is thin
    blur: tuple[float, float] = (0.25, 0.8)  # standard deviation in pixels of the picture
    noise: tuple[float, float] = (2.0, 12.0)  # standard deviation in grey levels


def distort(
    ink_NSS: np.ndarray, rng: np.random.Generator, *, side: int, fit: int, how: Distortion | None = None
) -> np.ndarray:
    """Pictures [N, side, side] uint8, dark ink on light paper.

    ink_NSS: uint8, 255 is ink, the glyph's longer side `fit` pixels and centred. Pure: the same generator state gives
    the same pictures.
    """
    how = how or Distortion()
    N = len(ink_NSS)
    ink = _weigh(ink_NSS.astype(np.float32) / 255.0, rng.uniform(*how.weight, N))
    x, y = _places(rng, N, side, fit, how)
    fine = _sample(ink, x, y)
    fine = fine[:, ::2] + fine[:, 1::2]
    picture = _blur((fine[:, :, ::2] + fine[:, :, 1::2]) / 4, rng.uniform(*how.blur, N))
    return _develop(picture, rng, how)


def _weigh(ink_NSS: np.ndarray, level_N: np.ndarray) -> np.ndarray:
    """Thicker or thinner strokes: soften, then keep what is above a level."""
    band = _bands(ink_NSS.shape[1], np.array([1.2]))[0]
    soft = band @ ink_NSS @ band.T
    # Hairlines never reach full ink once softened: the level counts from what they reach, or thin faces would vanish.
    reach = np.clip(np.partition(soft.reshape(len(soft), -1), -60, axis=1)[:, -60], 0.3, 1.0)
    return np.clip((soft - _each(level_N * reach)) * 3.0 + 0.5, 0.0, 1.0)


def _places(rng: np.random.Generator, N: int, side: int, fit: int, how: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """Where in the ink each of the (2 side)^2 points of each picture looks: x, y [N, 2 side, 2 side], ink pixels."""
    size = rng.uniform(how.smallest, how.largest, N) * side
    angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg, N))
    slant = rng.uniform(-how.slant, how.slant, N)
    stretch = np.exp(rng.uniform(-how.stretch, how.stretch, N) / 2)
    room = np.maximum(0.5, (side - size) / 2 * 0.7)
    shift_N2 = rng.uniform(-1, 1, (N, 2)) * room[:, None]
    grid = ((np.arange(2 * side) + 0.5) / 2 - side / 2).astype(np.float32)
    warp_N2TT = _waves(rng, N, side) * np.float32(how.warp)
    u = grid[None, None, :] - _each(shift_N2[:, 0]) + warp_N2TT[:, 0]
    v = grid[None, :, None] - _each(shift_N2[:, 1]) + warp_N2TT[:, 1]
    cos, sin = np.cos(angle) * fit / size, np.sin(angle) * fit / size
    y = _each(cos / stretch) * v - _each(sin / stretch) * u
    x = _each(cos * stretch) * u + _each(sin * stretch) * v + _each(slant) * y
    return x, y


def _each(value_N: np.ndarray) -> np.ndarray:
    """One value per picture, shaped to meet [N, T, T]; float32, so that the pictures stay it."""
    return value_N.astype(np.float32)[:, None, None]


def _waves(rng: np.random.Generator, N: int, side: int) -> np.ndarray:
    """Smooth random fields [N, 2, 2 side, 2 side], about -1 to 1: five random values along each axis, cosine-joined."""
    knots = 5
    at = np.linspace(0, knots - 1, 2 * side)
    near = np.clip(1 - np.abs(at[:, None] - np.arange(knots)[None, :]), 0, 1)
    ease = near * near * (3 - 2 * near)
    ease = ease.astype(np.float32)
    return ease @ rng.uniform(-1, 1, (N, 2, knots, knots)).astype(np.float32) @ ease.T


def _sample(ink_NSS: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear reading at points counted from the centre; outside is paper."""
    N, S, _ = ink_NSS.shape
    x = np.clip(x + (S - 1) / 2, 0, S - 1.001)
    y = np.clip(y + (S - 1) / 2, 0, S - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    at = np.arange(N, dtype=np.int32)[:, None, None] * (S * S) + top * S + left
    flat = ink_NSS.ravel()
    above = flat[at] * (1 - x) + flat[at + 1] * x
    below = flat[at + S] * (1 - x) + flat[at + S + 1] * x
    return above * (1 - y) + below * y


def _blur(picture_NTT: np.ndarray, sigma_N: np.ndarray) -> np.ndarray:
    """Gaussian blur, one width per picture."""
    band_NTT = _bands(picture_NTT.shape[1], sigma_N)
    return band_NTT @ picture_NTT @ band_NTT.transpose(0, 2, 1)


def _bands(side: int, sigma_N: np.ndarray) -> np.ndarray:
    """Blurring as matrices [N, side, side]; rows sum to one, so the picture's edges stay as bright."""
    apart = (np.arange(side)[:, None] - np.arange(side)[None, :]).astype(np.float32)
    band = np.exp(-0.5 * (apart[None] / _each(sigma_N)) ** 2)
    return band / band.sum(axis=2, keepdims=True)


def _develop(ink_NTT: np.ndarray, rng: np.random.Generator, how: Distortion) -> np.ndarray:
    """Ink 0..1 to grey levels: paper and ink of varying brightness, light from one side, grain."""
    N, T, _ = ink_NTT.shape
    paper, contrast = rng.uniform(190, 252, N), rng.uniform(110, 235, N)
    contrast = np.minimum(contrast, paper - 8)
    tilt = rng.uniform(-22, 22, (N, 2))
    ramp = np.linspace(-0.5, 0.5, T, dtype=np.float32)
    light = _each(tilt[:, 0]) * ramp[None, :, None] + _each(tilt[:, 1]) * ramp[None, None, :]
    grain = rng.standard_normal((N, T, T), dtype=np.float32) * _each(rng.uniform(*how.noise, N))
    grey = _each(paper) - _each(contrast) * ink_NTT + light + grain
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)
