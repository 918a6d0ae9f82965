"""Which characters are classes of their own, in which faces: the rule, and the table it yields.

    python -m kinsight.demo.alphabet    # writes alphabet.tsv anew

Two drawings are alike when their `distances` is below ALIKE; in one and the same face already below ALIKE_IN_FACE,
because there nothing but the difference of the characters is left. Of characters drawn alike one is kept, the one that
more families have, then the one of the lowest code point; the table lists the others beside it. Of a character's faces
those are kept that differ from each other by ALIKE; a character with one such face only is no class.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unicodedata import name

import numpy as np

from kinsight.demo.glyphs import FACES, candidates, distances, family, glyph, signatures
from kinsight.demo.pool import ordered_map

ALIKE = 0.03
ALIKE_IN_FACE = 0.05
TABLE = Path(__file__).with_name("alphabet.tsv")

Drawings = dict[str, tuple[list[int], np.ndarray]]  # face -> code points, their signatures


@dataclass(frozen=True)
class Symbol:
    """A class: its character, its genuinely different faces, and the characters left out as drawn too much like it."""

    code: int
    faces: tuple[str, ...]
    alike: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"U+{self.code:04X}"

    @property
    def title(self) -> str:
        return name(chr(self.code), "unnamed")


@cache
def alphabet() -> tuple[Symbol, ...]:
    """The table that ships with the package, by code point."""
    lines = TABLE.read_text(encoding="ascii").splitlines()
    return tuple(_parse(line) for line in lines if not line.startswith("#"))


def find_symbols(workers: int = 1) -> list[Symbol]:
    """The table from the fonts themselves, by code point."""
    drawings: Drawings = dict(zip(FACES, ordered_map(_draw_face, FACES, workers), strict=True))
    faces_of = _different_faces(drawings)
    rank = {code: (-len({family(face) for face in faces}), code) for code, faces in _faces_having(drawings).items()}
    codes = sorted((code for code, faces in faces_of.items() if len(faces) > 1), key=rank.__getitem__)
    kept, alike = _keep_first(codes, _alike_in_face(codes, drawings))
    rows = [(code, face) for code in kept for face in faces_of[code]]
    kept, more = _keep_first(kept, _alike_anywhere(kept, rows, drawings))
    for code, others in more.items():
        alike[code] += [further for other in others for further in (other, *alike[other])]
    return [Symbol(code, tuple(faces_of[code]), tuple(sorted(alike[code]))) for code in sorted(kept)]


def _draw_face(face: str) -> tuple[list[int], np.ndarray]:
    drawn = [(code, ink) for code in candidates(face) if (ink := glyph(face, code)) is not None]
    return [code for code, _ in drawn], signatures(np.stack([ink for _, ink in drawn]))


def _faces_having(drawings: Drawings) -> dict[int, list[str]]:
    having: dict[int, list[str]] = {}
    for face, (codes, _) in drawings.items():
        for code in codes:
            having.setdefault(code, []).append(face)
    return having


def _different_faces(drawings: Drawings) -> dict[int, list[str]]:
    """Per character its faces in the order of FACES, without those that look like an earlier one."""
    place = {face: {code: row for row, code in enumerate(codes)} for face, (codes, _) in drawings.items()}
    kept: dict[int, list[str]] = {}
    for code, faces in _faces_having(drawings).items():
        picture = np.stack([drawings[face][1][place[face][code]] for face in faces])
        apart = distances(picture, picture) >= ALIKE
        chosen: list[int] = []
        for row in range(len(faces)):
            if apart[row, chosen].all():
                chosen.append(row)
        kept[code] = [faces[row] for row in chosen]
    return kept


def _alike_in_face(codes: list[int], drawings: Drawings) -> np.ndarray:
    """[C, C] bool: alike in at least one face that has both."""
    index = {code: row for row, code in enumerate(codes)}
    alike = np.zeros((len(codes), len(codes)), bool)
    for own, picture in drawings.values():
        rows = [row for row, code in enumerate(own) if code in index]
        at = np.array([index[own[row]] for row in rows])
        alike[np.ix_(at, at)] |= distances(picture[rows], picture[rows]) < ALIKE_IN_FACE
    return alike


def _alike_anywhere(codes: list[int], rows: list[tuple[int, str]], drawings: Drawings) -> np.ndarray:
    """[C, C] bool: some row of the one is alike to some row of the other, whatever their faces."""
    index = {code: row for row, code in enumerate(codes)}
    place = {face: {code: row for row, code in enumerate(own)} for face, (own, _) in drawings.items()}
    picture = np.stack([drawings[face][1][place[face][code]] for code, face in rows])
    owner = np.array([index[code] for code, _ in rows])
    alike = np.zeros((len(codes), len(codes)), bool)
    for start in range(0, len(rows), 2048):
        block = slice(start, start + 2048)
        left, right = np.nonzero(distances(picture[block], picture) < ALIKE)
        alike[owner[block][left], owner[right]] = True
    return alike


def _keep_first(codes: list[int], alike: np.ndarray) -> tuple[list[int], dict[int, list[int]]]:
    """Go through the codes in order, dropping each that is alike to a kept one; the kept, and what each stands for."""
    kept: dict[int, list[int]] = {}
    free = np.ones(len(codes), bool)
    for row, code in enumerate(codes):
        if free[row]:
            free[row] = False
            covered = np.flatnonzero(alike[row] & free)
            kept[code] = [codes[other] for other in covered]
            free[covered] = False
    return list(kept), kept


def _parse(line: str) -> Symbol:
    code, faces, alike, _ = line.split("\t")
    return Symbol(int(code, 16), tuple(faces.split(",")), tuple(int(other, 16) for other in alike.split(",") if other))


def format_table(symbols: Iterable[Symbol]) -> str:
    """The table as text: code point, faces, characters drawn alike, name."""
    head = "# code point\tfaces that differ\tleft out as drawn alike\tname\n"
    return head + "".join(
        f"{symbol.code:04X}\t{','.join(symbol.faces)}\t{','.join(f'{o:04X}' for o in symbol.alike)}\t{symbol.title}\n"
        for symbol in symbols
    )


if __name__ == "__main__":
    TABLE.write_text(format_table(find_symbols(workers=2)), encoding="ascii")
