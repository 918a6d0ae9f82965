"""Ink thinned to lines as wide as one pixel: how a pen would go, and whether two drawings have the same form.

Thickness is the font's matter; what a hand draws, and what a person tells a character by, is where the lines go.

Shapes: N drawings, S side, bool throughout.
"""

import numpy as np

REACH = 3  # pixels of SIDE: lines nearer than that are in the same place
_AROUND = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))  # clockwise from above, as (row, column)


def thin(ink_NSS: np.ndarray) -> np.ndarray:
    """Lines left of the ink, connected as it was (Zhang and Suen 1984); what that removes whole keeps its middle."""
    N, S, _ = ink_NSS.shape
    on = np.zeros((N, S + 2, S + 2), bool)
    on[:, 1:-1, 1:-1] = ink_NSS
    left = np.arange(N)
    while len(left):
        part = on[left]
        changed = np.zeros(len(left), bool)
        for removed_256 in _REMOVED:
            code = np.zeros((len(left), S, S), np.uint8)
            for bit, (down, right) in enumerate(_AROUND):
                code |= part[:, down : down + S, right : right + S].astype(np.uint8) << bit
            drop = removed_256[code] & part[:, 1:-1, 1:-1]
            part[:, 1:-1, 1:-1] &= ~drop
            changed |= drop.any((1, 2))
        on[left] = part
        left = left[changed]
    lines = on[:, 1:-1, 1:-1]
    for n in np.flatnonzero(~lines.any((1, 2)) & ink_NSS.any((1, 2))):  # squares of two pixels vanish
        y, x = np.nonzero(ink_NSS[n])
        lines[n, int(y.mean()), int(x.mean())] = True
    return lines


def widen(line_NSS: np.ndarray, radius: float) -> np.ndarray:
    """Everything within `radius` pixels of the lines: drawn with a round pen."""
    N, S, _ = line_NSS.shape
    reach = int(radius)
    padded = np.zeros((N, S + 2 * reach, S + 2 * reach), bool)
    padded[:, reach : reach + S, reach : reach + S] = line_NSS
    wide = np.zeros_like(line_NSS)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down * down + right * right <= radius * radius:
                wide |= padded[:, reach + down : reach + down + S, reach + right : reach + right + S]
    return wide


def _removed() -> np.ndarray:
    """[2, 256]: by a pixel's eight neighbours, whether each of the two passes removes it."""
    table = np.zeros((2, 256), bool)
    for code in range(256):
        near = [(code >> bit) & 1 for bit in range(8)]
        edges = sum(near[bit] == 0 and near[(bit + 1) % 8] == 1 for bit in range(8))
        north, east, south, west = near[::2]
        if 2 <= sum(near) <= 6 and edges == 1:
            table[0, code] = not (north and east and south) and not (east and south and west)
            table[1, code] = not (north and east and west) and not (north and south and west)
    return table


_REMOVED = _removed()
